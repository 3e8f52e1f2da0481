"""Seed and position in, the sample that stands there out: the order of training as pure functions.

Positions count samples over all epochs, one after another; step s takes the positions s·B … (s + 1)·B - 1. No tail
of an epoch is dropped, and to go on from step s nothing else needs to be remembered.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# The last number tells the streams of one sample apart. None is 0, since numpy pads short seeds with zeros.
_AUGMENTATION = 1
_SUBSTITUTION = 2


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, found: int) -> NDArray[np.int64]:
    """Return the order of an epoch: a permutation of 0 … found - 1, int64 [found], read-only."""
    permutation = np.random.default_rng([seed, epoch]).permutation(found)
    permutation.flags.writeable = False
    return permutation


def position_to_sample(position: int, *, seed: int, found: int) -> tuple[int, int]:
    """Return (epoch, index) of the sample at a position."""
    epoch, place = divmod(position, found)
    return epoch, int(order(seed, epoch, found)[place])


def substitute(seed: int, epoch: int, index: int, attempt: int, found: int) -> int:
    """Return the sample to try in place of an unusable one: any sample, drawn anew for every attempt."""
    return int(np.random.default_rng([seed, epoch, index, _SUBSTITUTION, attempt]).integers(found))


def augmentation(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator that decides crop and caption of a sample: never a worker's state."""
    return np.random.default_rng([seed, epoch, index, _AUGMENTATION])
