"""Cases for means over languages that share their images, and for crops that share their photo."""

from collections.abc import Iterator

import numpy as np

from coverage_cases import Case, IntervalCase
from zebra.protocols.language_mean import LanguageHits, average_languages
from zebra.protocols.metrics import clustered_proportion
from zebra.values import Score


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    for num_languages, num_images, num_captions, low, high, agreement in (
        (36, 3600, 2, 0.0, 0.75, 0.6),
        (36, 300, 2, 0.05, 0.75, 0.6),
        (11, 1000, 1, 0.45, 0.75, 0.6),
        (200, 200, 1, 0.0, 0.6, 0.9),
        (3, 200, 1, 0.02, 0.1, 0.3),
    ):
        settings = (
            f"{num_languages} languages, {num_images:,} images, {num_captions} captions, recall {low} to {high}, "
            f"agreement {agreement}"
        )
        truth = (low + high) / 2
        shape = (num_languages, num_images, num_captions, low, high, agreement)
        yield IntervalCase("mean over languages", settings, truth, lambda seed, s=shape: _mean(*s, seed))
    for num_photos, num_crops, agreement in ((112, 9, 0.4), (30, 9, 0.4)):
        settings = f"{num_photos} photos of {num_crops} crops, accuracy 0.7, agreement {agreement}"
        yield IntervalCase(
            "matching of crops", settings, 0.7, lambda seed, s=(num_photos, num_crops, agreement): _crops(*s, seed)
        )


def _mean(
    num_languages: int, num_images: int, num_captions: int, low: float, high: float, agreement: float, seed: int
) -> Score:
    """Draw hits: with the given probability a language follows a difficulty that all share, else one of its own."""
    rng = np.random.default_rng(seed)
    shared_N = rng.random(num_images)
    hits = []
    for recall in np.linspace(low, high, num_languages):
        image_M = np.repeat(np.arange(num_images), num_captions)
        own_M = rng.random(len(image_M))
        difficulty_M = np.where(rng.random(len(image_M)) < agreement, shared_N[image_M], own_M)
        hits.append(LanguageHits(difficulty_M < recall, image_M))
    return average_languages(hits)


def _crops(num_photos: int, num_crops: int, agreement: float, seed: int) -> Score:
    rng = np.random.default_rng(seed)
    photo_N = np.repeat(np.arange(num_photos), num_crops)
    shared_N = (rng.random(num_photos) < 0.7)[photo_N]
    own_N = rng.random(len(photo_N)) < 0.7
    return clustered_proportion(np.where(rng.random(len(photo_N)) < agreement, shared_N, own_N), photo_N)
