"""Vector search in a store: exact or by an index, with filters, deduplication and pages."""
