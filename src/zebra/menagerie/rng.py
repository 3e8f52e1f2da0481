"""The random number generator of one sample, seeded by (seed, split, index)."""

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class SampleRng:
    """A generator that depends on (seed, split, index) alone, so that any process draws the same image.

    >>> SampleRng(0, "train", 7).choice("abcdef") == SampleRng(0, "train", 7).choice("abcdef")
    True
    """

    def __init__(self, seed: int, split: str, index: int) -> None:
        entropy = np.random.SeedSequence([seed, zlib.crc32(split.encode()), index])
        self.generator = np.random.default_rng(entropy)

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options, uniformly at random."""
        # Generator.choice and .integers take ten times as long, and an image needs about a hundred choices.
        return options[int(self.generator.random() * len(options))]

    def uniform(self, low: float, high: float) -> float:
        """Return a float, uniform in [low, high)."""
        return low + (high - low) * self.generator.random()

    def bernoulli(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.generator.random() < probability

    def permutation(self, options: Sequence[T]) -> list[T]:
        """Return the options in random order."""
        return [options[position] for position in self.generator.permutation(len(options))]
