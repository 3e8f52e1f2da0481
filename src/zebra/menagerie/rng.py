"""Seed, split and index in; every random choice of one picture out."""

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class SampleRng:
    """A stream of choices that depends on (seed, split, index) alone, so that any process draws the same picture.

    >>> Dice(0, "train", 7).pick("abcdef") == Dice(0, "train", 7).pick("abcdef")
    True
    """

    def __init__(self, seed: int, split: str, index: int) -> None:
        entropy = np.random.SeedSequence([seed, zlib.crc32(split.encode()), index])
        self.generator = np.random.default_rng(entropy)

    def choice(self, options: Sequence[T]) -> T:
        """Choose one of the options, all equally likely."""
        # Generator.choice and .integers cost ten times as much, and a picture takes about a hundred choices.
        return options[int(self.generator.random() * len(options))]

    def uniform(self, low: float, high: float) -> float:
        """Choose a number in [low, high)."""
        return low + (high - low) * self.generator.random()

    def bernoulli(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.generator.random() < probability

    def permutation(self, options: Sequence[T]) -> list[T]:
        """Return the options in random order."""
        return [options[position] for position in self.generator.permutation(len(options))]
