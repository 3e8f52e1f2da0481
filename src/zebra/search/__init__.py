"""Vector search in a store: exact or indexed, with filters and deduplication."""
