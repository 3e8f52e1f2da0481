"""Principal axes of vectors, for shorter vectors without training."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.errors import ConfigError


def fit_principal_axes(batches: Iterable[NDArray[np.floating[Any]]], num_axes: int) -> NDArray[np.float32]:
    """Return the axes on which vectors have the largest mean squares.

    The mean is not subtracted, so that products of projected vectors approximate those of the vectors, also between
    images and texts.

    Args:
        batches: Vectors [B, E].
        num_axes: Number K of axes, from 1 to E.

    Returns:
        Orthonormal columns, float32 [E, K], in the order of their mean squares. The largest component of each is
        positive, so that equal vectors give equal axes.

    Raises:
        ConfigError: There are no vectors, or fewer than K components.
    """
    moment_EE: NDArray[np.float64] | None = None
    for vectors_BE in batches:
        block_BE = vectors_BE.astype(np.float64)
        moment_EE = block_BE.T @ block_BE + (0 if moment_EE is None else moment_EE)
    if moment_EE is None:
        raise ConfigError("principal axes need at least one vector; there are none")
    if not 1 <= num_axes <= len(moment_EE):
        raise ConfigError(
            f"{num_axes} principal axes of vectors of size {len(moment_EE)}; choose from 1 to {len(moment_EE)}"
        )
    _, axes_EE = np.linalg.eigh(moment_EE)
    axes_EK = axes_EE[:, ::-1][:, :num_axes]
    largest_K = np.take_along_axis(axes_EK, np.abs(axes_EK).argmax(axis=0)[None], axis=0)
    result_EK: NDArray[np.float32] = (axes_EK * np.sign(largest_K)).astype(np.float32)
    return result_EK
