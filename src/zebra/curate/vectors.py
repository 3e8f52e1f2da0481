"""Vectors and scores of pairs as columns of Arrow tables."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

IMAGE_VECTOR = "image_vector"
TEXT_VECTOR = "text_vector"
"""Columns of fixed-size lists of float16."""
ALIGNMENT = "alignment"
FLIPPED_ALIGNMENT = "flipped_alignment"
"""Columns of float32."""
SCORE_REASON = "score_reason"
"""Why a pair has no score; null if it has one."""


def to_vectors(column: pa.ChunkedArray) -> NDArray[np.float16]:
    """Return a column of vectors without nulls as an array [N, E]."""
    vectors: NDArray[np.float16] = column.combine_chunks().flatten().to_numpy()
    return vectors.reshape(len(column), column.type.list_size)


def to_column(vectors_NE: NDArray[np.floating[Any]]) -> pa.FixedSizeListArray:
    """Return vectors as a column, rounded to float16."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.astype(np.float16).ravel()), vectors_NE.shape[1])


def to_unit_length(vectors_NE: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return vectors at unit length, in float32, since float16 changes the length by up to 0.0005; 0 becomes NaN."""
    rows_NE = vectors_NE.astype(np.float32)
    with np.errstate(invalid="ignore"):
        rows_NE /= np.linalg.norm(rows_NE, axis=1, keepdims=True)
    return rows_NE
