"""Remote data: object stores, HTTP and the block cache."""
