"""The mean of a score over languages that share their images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from zebra.errors import DataError
from zebra.protocols.metrics import wilson_interval
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class LanguageHits:
    """Hits and misses of one language."""

    hit_M: NDArray[np.bool_]
    image_of_hit_M: NDArray[np.int64]
    """Index of the image that each hit or miss belongs to, the same in all languages."""


def average_languages(hits: Sequence[LanguageHits]) -> Score:
    """Return the mean over languages of the fraction of hits, each language with equal weight.

    The languages are fixed and the images random. What the languages say of one image is one cluster, so the interval
    is Wilson's for the number of independent samples with the same variance, at most the number of all samples. The n
    of the score is the number of images.

    Raises:
        DataError: There is no language, or one has no samples.
    """
    if not hits or not all(len(language.hit_M) for language in hits):
        raise DataError("cannot average over languages: there is none, or one has no samples")
    num_images = 1 + max(int(language.image_of_hit_M.max()) for language in hits)
    influence_N, is_used_N = np.zeros(num_images), np.zeros(num_images, dtype=np.bool_)
    fractions = []
    for language in hits:
        fraction = float(language.hit_M.mean())
        fractions.append(fraction)
        weight = 1 / (len(hits) * len(language.hit_M))
        influence_N += weight * np.bincount(language.image_of_hit_M, language.hit_M - fraction, num_images)
        is_used_N[language.image_of_hit_M] = True
    value, num_samples = float(np.mean(fractions)), sum(len(language.hit_M) for language in hits)
    num_clusters = int(is_used_N.sum())
    variance = float((influence_N**2).sum()) * num_clusters / max(1, num_clusters - 1)
    # With all hits or none in each language, the similarity inside clusters is unknown: count the clusters.
    effective_n = value * (1 - value) / variance if variance > 0 else float(num_clusters)
    quantile = float(student.ppf(0.975, max(1, num_clusters - 1)))
    low, high = wilson_interval(value, min(effective_n, num_samples), quantile)
    return Score(value, low, high, num_clusters)


def average_metrics(hits_by_language: Mapping[str, Mapping[str, LanguageHits]]) -> dict[str, Score]:
    """Return the mean over languages of each metric that all languages have.

    Args:
        hits_by_language: Language → metric → hits.
    """
    first, *others = hits_by_language.values()
    metrics = [metric for metric in first if all(metric in other for other in others)]
    return {metric: average_languages([hits[metric] for hits in hits_by_language.values()]) for metric in metrics}


def image_contributions(hits: Sequence[LanguageHits], num_images: int) -> NDArray[np.float64]:
    """Return one value per image whose mean is the mean over languages, for paired tests [N]."""
    total_N = np.zeros(num_images)
    for language in hits:
        weight = num_images / (len(hits) * len(language.hit_M))
        total_N += weight * np.bincount(language.image_of_hit_M, language.hit_M, num_images)
    return total_N
