"""Image towers: Vision Transformer, ModifiedResNet and SigLIP."""
