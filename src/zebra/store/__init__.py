"""The store: a LanceDB table of images and their vectors, with crash-safe commits."""

from zebra.errors import StoreError
from zebra.store.metadata import StoreMetadata
from zebra.store.reader import StoreVersion
from zebra.store.store import Store

__all__ = ["Store", "StoreError", "StoreMetadata", "StoreVersion"]
