"""Lists of entries, the queries by which a set is balanced (CLIP §2.2)."""
