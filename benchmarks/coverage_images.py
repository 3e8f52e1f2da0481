"""Cases for tasks on image vectors: retrieval by images, clustering, calibration, out-of-distribution detection.

Where the true value is the mean score over datasets of a size, it is the mean over 2,000 other datasets.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import norm

from coverage_cases import Case, IntervalCase
from zebra.evaluators.clustering import MTEB_SEED, NUM_RERUNS, run_mini_batch_kmeans
from zebra.protocols.calibration import Probabilities, compute_probabilities
from zebra.protocols.clustering_metrics import score_clusters
from zebra.protocols.image_retrieval import retrieve_same_label
from zebra.protocols.ood import average_precision, false_positive_rate
from zebra.values import Score

NUM_TRUTH_DRAWS, FIRST_TRUTH_SEED = 2000, 10**6
Scores = Callable[[int], dict[str, Score]]
"""Seed → scores of one dataset."""


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    for num_known, num_unknown, distance in ((100, 100, 1.0), (500, 500, 2.5), (2000, 1000, 4.0)):
        settings = f"{num_known:,} known and {num_unknown:,} unknown images, {distance} standard deviations apart"
        sizes = num_known, num_unknown, distance
        rate = float(norm.sf(norm.ppf(0.05, distance)))
        yield IntervalCase("FPR95", settings, rate, partial(_detection, sizes, false_positive_rate))
        yield _mean_case(
            "AUPR", settings, lambda seed, sizes=sizes: {"": _detection(sizes, average_precision, seed)}, ""
        )
    for num_classes, separation, is_sample in ((4, 0.7, False), (40, 1.0, False), (40, 1.0, True)):
        kind = "sampled instances" if is_sample else "given classes"
        draw = partial(_retrieval, 200, num_classes, separation, is_sample)
        for name in ("map", "recall@1"):
            yield _mean_case(f"image retrieval, {name}", f"200 images of {num_classes} {kind}", draw, name)
    for n, num_classes in ((300, 10), (1000, 20)):
        for name in ("v_measure", "ari", "accuracy"):
            settings = f"{n:,} images of {num_classes} classes"
            yield _mean_case(f"clustering, {name}", settings, partial(_clustering, n, num_classes), name)
    for n, factor in ((1000, 1.0), (1000, 1.5), (5000, 1.0)):
        settings = f"{n:,} images, temperature wrong by {factor:g}"
        for name in ("ece", "ece_adaptive", "brier", "nll"):
            yield _mean_case(f"calibration, {name}", settings, partial(_calibration, n, factor), name)


def _mean_case(statistic: str, settings: str, draw: Scores, name: str) -> IntervalCase:
    def truth() -> float:
        seeds = range(FIRST_TRUTH_SEED, FIRST_TRUTH_SEED + NUM_TRUTH_DRAWS)
        return float(np.mean([draw(seed)[name].value for seed in seeds]))

    return IntervalCase(statistic, settings, truth, lambda seed: draw(seed)[name])


def _detection(sizes: tuple[int, int, float], measure: Callable[..., Score], seed: int) -> Score:
    num_known, num_unknown, distance = sizes
    rng = np.random.default_rng(seed)
    return measure(rng.normal(distance, 1, num_known), rng.normal(0, 1, num_unknown))


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _retrieval(n: int, num_classes: int, separation: float, is_sample: bool, seed: int) -> dict[str, Score]:
    rng = np.random.default_rng(seed)
    centers = separation * (rng if is_sample else np.random.default_rng(1)).normal(size=(num_classes, 8))
    label_N = np.arange(n) % num_classes
    vectors = _unit(centers[label_N] + rng.normal(size=(n, 8)))
    return retrieve_same_label(vectors, label_N, is_sample=is_sample).scores()


def _clustering(n: int, num_classes: int, seed: int) -> dict[str, Score]:
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, num_classes, n)
    vectors = _unit(1.3 * np.random.default_rng(1).normal(size=(num_classes, 16))[label_N] + rng.normal(size=(n, 16)))
    runs = [run_mini_batch_kmeans(vectors, num_classes, MTEB_SEED + run) for run in range(1 + NUM_RERUNS)]
    return score_clusters(label_N, runs[0], np.stack(runs[1:]))


def _calibration(n: int, factor: float, seed: int) -> dict[str, Score]:
    rng = np.random.default_rng(seed)
    images, classes = _unit(rng.normal(size=(n, 6))), _unit(np.random.default_rng(1).normal(size=(10, 6)))
    probability_NC = softmax(8.0 * (images @ classes.T), axis=1)
    label_N = (probability_NC.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    result: Probabilities = compute_probabilities(images, classes, label_N, 8.0 * factor)
    return result.scores()
