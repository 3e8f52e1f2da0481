"""Image towers, one family per file."""
