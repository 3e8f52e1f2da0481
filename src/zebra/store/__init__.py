"""The table on disk: rows of pictures with their vectors in, the same rows out, whatever happens in between."""

from zebra.errors import StoreError
from zebra.store.metadata import StoreMetadata
from zebra.store.store import Store, StoreVersion

__all__ = ["Store", "StoreError", "StoreMetadata", "StoreVersion"]
