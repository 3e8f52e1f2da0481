"""Shorter vectors for search: first components, or principal axes of a store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.atomic_io import atomic_write
from zebra.errors import ConfigError, StoreError, untrained_size_error
from zebra.store import Store
from zebra.store.pca import fit_principal_axes

AXES_FILE = "axes.npy"
"""Principal axes of the vectors of a store, float32 [E, E], in its folder."""


@dataclass(frozen=True, slots=True)
class Shortening:
    """A linear map from the vectors of a store to shorter ones, which search compares by cosine."""

    size: int
    """Size K of the short vectors."""
    axes_EK: NDArray[np.float32] | None = None
    """Principal axes; None takes the first K components."""

    def __call__(self, vectors_NE: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return the short vectors [N, K], in the same dtype, not normalized."""
        if self.axes_EK is None:
            return np.ascontiguousarray(vectors_NE[:, : self.size])
        return (vectors_NE.astype(np.float32) @ self.axes_EK).astype(vectors_NE.dtype)

    def read(self, store: Store, offset: int = 0) -> NDArray[Any]:
        """Return the short vectors of all rows from `offset` on, [N, K]; only they are kept in memory."""
        short_NK = np.empty((len(store) - offset, self.size), store.metadata.dtype)
        start = 0
        for vectors_BE in iter_vectors(store, offset):
            short_NK[start : start + len(vectors_BE)] = self(vectors_BE)
            start += len(vectors_BE)
        return short_NK


def iter_vectors(store: Store, offset: int = 0) -> Iterator[NDArray[np.floating[Any]]]:
    """Yield the vectors of all rows from `offset` on, [B, E], in store order."""
    for batch in store.scan(["vector"], offset):
        yield batch["vector"].flatten().to_numpy().reshape(batch.num_rows, -1)


def fit_store_axes(store: Store) -> Path:
    """Compute the principal axes of all vectors of a store and keep them in its folder; return the file.

    Raises:
        ConfigError: The store is empty.
        StoreError: The file cannot be written.
    """
    axes_EE = fit_principal_axes(iter_vectors(store), store.metadata.embed_dim)
    path = store.path / AXES_FILE
    try:
        with atomic_write(path, fsync=True) as partial, partial.open("wb") as file:
            np.save(file, axes_EE)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}. Free disk space and run again") from error
    return path


def find_shortening(store: Store, size: int, trained: Sequence[int]) -> Shortening | None:
    """Return how to shorten the vectors of a store: first components if the model was trained for the size, else PCA.

    Args:
        size: Size of the short vectors; that of the store needs no shortening (None).
        trained: Sizes that the model of the store was trained for, besides its full one.

    Raises:
        ConfigError: The model was not trained for the size, and the store has no principal axes; or the size is out of
            range.
        StoreError: The file of the axes is damaged.
    """
    embed_dim, path = store.metadata.embed_dim, store.path / AXES_FILE
    if size == embed_dim:
        return None
    if not 1 <= size < embed_dim:
        raise ConfigError(f"dimensions is {size}; the vectors of {store.path} have {embed_dim}. Choose from 1 to that")
    if size in trained:
        return Shortening(size)
    if not path.is_file():
        raise untrained_size_error(size, embed_dim, [each for each in trained if each < embed_dim])
    try:
        axes_EE: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"cannot read {path}: {error}. Run: zebra search {store.path} --pca") from error
    if axes_EE.shape != (embed_dim, embed_dim):
        raise StoreError(f"{path} does not suit vectors of size {embed_dim}. Run: zebra search {store.path} --pca")
    return Shortening(size, axes_EE[:, :size])
