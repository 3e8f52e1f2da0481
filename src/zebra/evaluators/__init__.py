"""Evaluators: a model and a dataset to results."""
