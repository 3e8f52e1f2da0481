"""Weights, tokenizer and preprocessing as one bundle: a model folder in, vectors and answers out."""
