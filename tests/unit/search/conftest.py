"""Fixtures: a small store to search, and rows for it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from zebra.store import Store, StoreMetadata

WIDTH = 8
COLUMNS = pa.schema({"year": pa.int32(), "rating": pa.float64()})


def unit_vectors(first: int, last: int, width: int = WIDTH) -> np.ndarray:
    """Return the vectors of rows; equal arguments give equal vectors."""
    rows = [np.random.default_rng(n).standard_normal(width) for n in range(first, last)]
    vectors = np.stack(rows) if rows else np.zeros((0, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def rows() -> Callable[..., pa.Table]:
    """Return a function that makes the rows `first` to `last`, with given or random vectors."""

    def make(first: int, last: int, vectors=None) -> pa.Table:
        numbers = range(first, last)
        vectors = unit_vectors(first, last) if vectors is None else vectors
        flat = pa.array(np.asarray(vectors, np.float32).ravel())
        return pa.table(
            {
                "id": [f"id-{n}" for n in numbers],
                "digest": [hashlib.sha256(b"%d" % n).hexdigest() for n in numbers],
                "path": [f"images/{n}.jpg" for n in numbers],
                "caption": pa.array([f"Image {n}" if n % 3 else None for n in numbers], pa.string()),
                "width": pa.array([640 + n for n in numbers], pa.int32()),
                "year": pa.array([2000 + n % 20 if n % 5 else None for n in numbers], pa.int32()),
                "rating": pa.array([float(n) if n % 7 else float("nan") for n in numbers], pa.float64()),
                "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            }
        )

    return make


@pytest.fixture
def store(tmp_path: Path, rows) -> Store:
    """Return a store of 50 rows."""
    metadata = StoreMetadata("f" * 64, "runs/demo/model", WIDTH, "fp32", "float16")
    store = Store.create(tmp_path / "store", metadata, COLUMNS)
    store.append(rows(0, 50))
    store.close()
    return store
