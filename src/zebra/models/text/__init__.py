"""Text towers, one family per file."""
