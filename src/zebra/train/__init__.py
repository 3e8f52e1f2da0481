"""Training engine: model, batches and schedule to a trained model and its log."""
