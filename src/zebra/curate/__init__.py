"""Curation of image-text pairs: rules, duplicates, exact accounts."""
