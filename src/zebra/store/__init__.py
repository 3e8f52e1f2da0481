"""The table on disk: rows of pictures with their vectors in, the same rows out, whatever happens in between."""

from zebra.errors import StoreError
from zebra.store.metadata import StoreFacts
from zebra.store.store import Store, Version

__all__ = ["Store", "StoreError", "StoreFacts", "Version"]
