"""Fixtures: an empty store, and rows for it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from zebra.store import Store, StoreMetadata

WIDTH = 8


@pytest.fixture
def metadata() -> StoreMetadata:
    """Return the metadata of a model with vectors of size 8."""
    return StoreMetadata("f" * 64, "runs/demo/model", WIDTH, "fp32", "float16")


@pytest.fixture
def rows() -> Callable[..., pa.Table]:
    """Return a function that makes the rows `first` to `last`; equal arguments give equal rows."""

    def make(first: int, last: int, width: int = WIDTH) -> pa.Table:
        numbers = range(first, last)
        vectors = np.stack([np.random.default_rng(n).standard_normal(width) for n in numbers] or [np.zeros(width)])
        flat = vectors[: len(numbers)].astype(np.float32).ravel()
        return pa.table(
            {
                "id": [f"id-{n}" for n in numbers],
                "digest": [hashlib.sha256(b"%d" % n).hexdigest() for n in numbers],
                "path": [f"images/{n}.jpg" for n in numbers],
                "caption": pa.array([f"image {n}" if n % 3 else None for n in numbers], pa.string()),
                "other_captions": pa.array([["a", "b"] * (n % 2) for n in numbers], pa.list_(pa.string())),
                "width": pa.array([640 + n for n in numbers], pa.int64()),
                "height": pa.array([480 for _ in numbers], pa.int64()),
                "thumbnail": pa.array([b"%d" % n for n in numbers], pa.binary()),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat), width),
            }
        )

    return make


@pytest.fixture
def store(tmp_path: Path, metadata: StoreMetadata) -> Store:
    """Return an empty store."""
    return Store.create(tmp_path / "store", metadata)
