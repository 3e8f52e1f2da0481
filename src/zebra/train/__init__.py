"""The training engine: a model, batches and a schedule in, a better model and its journal out."""
