"""Vectors with weights in, one unit vector to search for out: "this, and that, but not this"."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zebra.errors import ConfigError

WeightedVector = tuple[ArrayLike, float]


def combine_vectors(weighted_vectors: Sequence[WeightedVector]) -> NDArray[np.float32]:
    """Return the direction of a weighted sum, float32 [E], of unit length.

    Args:
        weighted_vectors: Vectors [E], each taken at unit length, and their weights; "not this" is a negative one.

    Raises:
        ConfigError: There are none, they are of different widths, or they cancel each other out.

    >>> print(combine_vectors([([3.0, 0.0], 1.0), ([0.0, 2.0], -1.0)]).round(2))
    [ 0.71 -0.71]
    """
    if not weighted_vectors:
        raise ConfigError("there is nothing to search for: name a text, a picture or a row of the store")
    total_E = sum(weight * normalize_query(vector).astype(np.float64) for vector, weight in weighted_vectors)
    if np.linalg.norm(total_E) < 1e-6:
        raise ConfigError("what is searched for and what is not cancel each other out: leave one of them out")
    return normalize_query(total_E)


def normalize_query(vector: ArrayLike, embed_dim: int | None = None) -> NDArray[np.float32]:
    """Return a vector at unit length, float32 [E].

    Raises:
        ConfigError: It is no vector (of that width), or holds NaN or infinity, or nothing but zeros.
    """
    values_E = np.asarray(vector, dtype=np.float64)
    if values_E.ndim != 1 or (embed_dim is not None and len(values_E) != embed_dim):
        raise ConfigError(
            f"a query is one vector of {embed_dim or 'E'} numbers, as the store's model makes it; this one is of "
            f"shape {list(values_E.shape)}"
        )
    length = float(np.linalg.norm(values_E))
    if not np.isfinite(length) or length == 0.0:
        raise ConfigError("a query cannot hold NaN or infinity, or nothing but zeros")
    return (values_E / length).astype(np.float32)
