"""Conversion of Arrow rows to Python values and unit vectors."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def rows_to_python(rows: pa.Table) -> list[dict[str, Any]]:
    """Return rows as Python values; NaN and infinity become None, because JSON cannot represent them."""
    return [
        {name: None if isinstance(cell, float) and not math.isfinite(cell) else cell for name, cell in row.items()}
        for row in rows.to_pylist()
    ]


def read_unit_vectors(rows: pa.Table) -> NDArray[np.float32]:
    """Return the column `vector`, float32 [N, E], at unit length; zero vectors stay zero."""
    column = rows["vector"].combine_chunks()
    array = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
    return to_unit_vectors(array.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), array.type.list_size))


def to_unit_vectors(vectors_NE: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return vectors at unit length, computed in float64; zero vectors stay zero."""
    exact_NE = vectors_NE.astype(np.float64)
    norms_N1 = np.maximum(np.linalg.norm(exact_NE, axis=1, keepdims=True), 1e-30)
    unit_NE: NDArray[np.float32] = (exact_NE / norms_N1).astype(np.float32)
    return unit_NE
