"""Query vectors: weighted sums of text, image and row vectors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zebra.errors import ConfigError

WeightedVector = tuple[ArrayLike, float]


def combine_vectors(weighted_vectors: Sequence[WeightedVector]) -> NDArray[np.float32]:
    """Return a weighted sum of unit vectors, normalized, float32 [E].

    Args:
        weighted_vectors: Vectors [E], which are normalized first, and their weights; a negative weight means "not".

    Raises:
        ConfigError: There are no vectors, their sizes differ, or they cancel each other out.

    >>> print(combine_vectors([([3.0, 0.0], 1.0), ([0.0, 2.0], -1.0)]).round(2))
    [ 0.71 -0.71]
    """
    if not weighted_vectors:
        raise ConfigError("the query is empty. Give a text, an image or a row of the store")
    total_E = sum(weight * normalize_query(vector).astype(np.float64) for vector, weight in weighted_vectors)
    if np.linalg.norm(total_E) < 1e-6:
        raise ConfigError("the parts of the query cancel each other out. Remove one of them")
    return normalize_query(total_E)


def normalize_query(vector: ArrayLike, embed_dim: int | None = None) -> NDArray[np.float32]:
    """Return a vector at unit length, float32 [E].

    Raises:
        ConfigError: The query is not a vector of size `embed_dim`, holds NaN or infinity, or is zero.
    """
    values_E = np.asarray(vector, dtype=np.float64)
    if values_E.ndim != 1 or (embed_dim is not None and len(values_E) != embed_dim):
        raise ConfigError(
            f"a query must be one vector of size {embed_dim or 'E'} from the model of the store; got shape "
            f"{list(values_E.shape)}"
        )
    norm = float(np.linalg.norm(values_E))
    if not np.isfinite(norm) or norm == 0.0:
        raise ConfigError("a query must be finite and not zero")
    return (values_E / norm).astype(np.float32)
