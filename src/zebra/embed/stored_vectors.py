"""Vectors of a store by the digest of the image."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.embed.hash_index import HashIndex
from zebra.store import Store


class StoredVectors:
    """The vectors of a store, which is only read; an index of 24 bytes per row is in memory."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Index the rows of a store.

        Args:
            fingerprint: Fingerprint of the model whose vectors are wanted.

        Raises:
            StoreError: There is no store, or it holds vectors of another model.
        """
        self._store = Store.open(path)
        self._store.require_fingerprint(fingerprint)
        self._lock = Lock()
        self._rows = HashIndex()
        num_rows = 0
        for batch in self._store.scan(["digest"]):
            self._rows.add(batch["digest"].to_pylist(), num_rows)
            num_rows += batch.num_rows

    @property
    def version(self) -> str:
        """Path and version of the store, which identify its contents."""
        return f"{self._store.path.resolve()}@{self._store.version}"

    def find(self, digests: Sequence[str]) -> list[NDArray[np.floating[Any]] | None]:
        """Return the vector of each image by the SHA-256 of its bytes in hex; None if the store does not have it."""
        rows = [next(self._rows.find_rows(digest), None) for digest in digests]
        stored = sorted({row for row in rows if row is not None})
        if not stored:
            return [None] * len(digests)
        with self._lock:
            column = self._store.take_positions(stored, ["vector"])["vector"]
        vectors_NE = column.combine_chunks().flatten().to_numpy().reshape(len(stored), -1)
        vectors = dict(zip(stored, vectors_NE, strict=True))
        return [None if row is None else vectors[row] for row in rows]
