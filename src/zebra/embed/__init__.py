"""Pictures in, rows of a store out: found, read, decoded, embedded and written, several at a time."""
