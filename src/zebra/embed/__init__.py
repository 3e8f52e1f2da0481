"""Embedding a dataset into a store: read, decode, embed and write in parallel."""
