"""Text towers: the causal transformer of CLIP and SigLIP."""
