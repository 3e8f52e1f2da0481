"""The order and random streams of training samples, as functions of the seed.

A position counts samples over all epochs. No tail of an epoch is dropped. A run resumes from its position alone.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# Last number of the seed; separates the random streams of a sample. Not 0, because NumPy pads short seeds with zeros.
_AUGMENTATION_STREAM = 1
_SUBSTITUTION_STREAM = 2

EpochOrder: TypeAlias = Callable[[int, int, int], NDArray[np.int64]]
"""(seed, epoch, num_samples) → the order of an epoch, a permutation of 0 … num_samples - 1."""


@lru_cache(maxsize=2)
def epoch_permutation(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """Return the order of an epoch: a permutation of 0 … num_samples - 1, int64 [num_samples], read-only."""
    permutation = np.random.default_rng([seed, epoch]).permutation(num_samples)
    permutation.flags.writeable = False
    return permutation


def samples_at(
    start: int, count: int, *, seed: int, num_samples: int, epoch_order: EpochOrder = epoch_permutation
) -> NDArray[np.int64]:
    """Return epoch and index of the samples at positions start … start + count - 1, int64 [count, 2]."""
    parts = []
    position, end = start, start + count
    while position < end:
        epoch, offset = divmod(position, num_samples)
        indices = epoch_order(seed, epoch, num_samples)[offset : offset + end - position]
        parts.append(np.stack([np.full_like(indices, epoch), indices], axis=1))
        position += len(indices)
    return np.concatenate(parts)


def substitute_index(seed: int, epoch: int, index: int, attempt: int, num_samples: int) -> int:
    """Return the index of a random sample to use in place of a bad one; every attempt is a new draw."""
    return int(np.random.default_rng([seed, epoch, index, _SUBSTITUTION_STREAM, attempt]).integers(num_samples))


def augmentation_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator for crop and caption of a sample; independent of the worker that loads it."""
    return np.random.default_rng([seed, epoch, index, _AUGMENTATION_STREAM])
