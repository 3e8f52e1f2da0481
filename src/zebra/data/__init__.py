"""Datasets: sources of records, training batches and counts of skipped samples."""
