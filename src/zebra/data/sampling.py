"""Seed and position in, the samples that stand there out: the order of training as pure functions.

Positions count samples over all epochs, one after another. No tail of an epoch is dropped, and to go on from a
position nothing else needs to be remembered.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# The last number tells the streams of one sample apart. None is 0, since numpy pads short seeds with zeros.
_AUGMENTATION_STREAM = 1
_SUBSTITUTION_STREAM = 2


@lru_cache(maxsize=2)
def epoch_permutation(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """Return the order of an epoch: a permutation of 0 … found - 1, int64 [found], read-only."""
    permutation = np.random.default_rng([seed, epoch]).permutation(num_samples)
    permutation.flags.writeable = False
    return permutation


def samples_at(start: int, count: int, *, seed: int, num_samples: int) -> NDArray[np.int64]:
    """Return epoch and index of the samples at `count` positions from `start` on, int64 [count, 2]."""
    parts = []
    position, end = start, start + count
    while position < end:
        epoch, place = divmod(position, num_samples)
        indices = epoch_permutation(seed, epoch, num_samples)[place : place + end - position]
        parts.append(np.stack([np.full_like(indices, epoch), indices], axis=1))
        position += len(indices)
    return np.concatenate(parts)


def substitute_index(seed: int, epoch: int, index: int, attempt: int, num_samples: int) -> int:
    """Return the sample to try in place of an unusable one: any sample, drawn anew for every attempt."""
    return int(
        np.random.default_rng([seed, epoch, index, _SUBSTITUTION_STREAM, attempt]).integers(num_samples)
    )


def augmentation_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator that decides crop and caption of a sample: never a worker's state."""
    return np.random.default_rng([seed, epoch, index, _AUGMENTATION_STREAM])
