"""Protocols on vectors: embeddings and class heads in, scores with intervals out; no model, image or GPU."""
