"""Evaluation datasets: readers, the writer and the catalog."""
