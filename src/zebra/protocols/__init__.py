"""Evaluation protocols: pure functions from vectors and labels to scores."""
