"""Cases for accuracies: of all images, per class, in clusters, top-1 with top-5, by group."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from coverage_cases import Case, IntervalCase
from zebra.protocols.groups import score_by_group
from zebra.protocols.metrics import clustered_proportion, mean_per_class_accuracy, proportion
from zebra.protocols.zero_shot import ClassificationResult
from zebra.values import Score


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    for n, accuracy in ((100, 0.7), (500, 0.9), (1000, 0.4), (10_000, 0.762)):
        yield IntervalCase("proportion", f"{n:,} images, accuracy {accuracy}", accuracy, _proportion(n, accuracy))
    for num_images, accuracy, correlation in ((1000, 0.3, 0.5), (1000, 0.88, 0.4), (200, 0.6, 0.2), (5000, 0.584, 0.3)):
        settings = f"{num_images:,} images with five captions, recall {accuracy}, correlation {correlation}"
        yield IntervalCase("clustered proportion", settings, accuracy, _clusters(num_images, accuracy, correlation))
    for num_classes, sizes, low, high in (
        (10, (100, 100), 0.3, 0.9), (37, (100, 100), 0.7, 1.0), (100, (3, 3), 0.2, 0.8), (102, (20, 200), 0.4, 1.0),
        (20, (5, 5), 0.95, 1.0), (7, (20, 500), 0.1, 0.9),
    ):  # fmt: skip
        settings = f"{num_classes} classes of {sizes[0]} to {sizes[1]} images, accuracy {low} to {high}"
        accuracy_C = np.linspace(low, high, num_classes)
        # Fixed, and unrelated to the accuracy.
        size_C = np.random.default_rng(0).permutation(np.linspace(*sizes, num_classes).astype(int))
        yield IntervalCase("mean per class", settings, float(accuracy_C.mean()), _classes(accuracy_C, size_C))
    for n, top1, top5 in ((200, 0.4, 0.8), (2000, 0.6, 0.85), (30_000, 0.5, 0.75)):
        settings = f"{n:,} images, top-1 {top1}, top-5 {top5}"
        yield IntervalCase("mean of top-1 and top-5", settings, (top1 + top5) / 2, _top1_top5(n, top1, top5))
    for accuracy_G, size in (
        (np.full(2, 0.8), 200), (np.full(7, 0.8), 1000), (np.linspace(0.6, 0.95, 7), 200),
        (np.linspace(0.6, 0.95, 7), 1000), (np.full(30, 0.8), 50), (np.linspace(0.3, 0.9, 5), 4000),
    ):  # fmt: skip
        settings = f"{len(accuracy_G)} groups of {size:,}, accuracy {accuracy_G.min():.2f} to {accuracy_G.max():.2f}"
        yield IntervalCase("worst group", settings, float(accuracy_G.min()), _worst_group(accuracy_G, size))
        yield IntervalCase("gap between groups", settings, float(np.ptp(accuracy_G)), _gap(accuracy_G, size))


def _proportion(n: int, accuracy: float):
    return lambda seed: proportion(int(np.random.default_rng(seed).binomial(n, accuracy)), n)


def _clusters(num_images: int, accuracy: float, correlation: float):
    a, b = accuracy * (1 - correlation) / correlation, (1 - accuracy) * (1 - correlation) / correlation

    def draw(seed: int) -> Score:
        rng = np.random.default_rng(seed)
        hit_M = (rng.random((num_images, 5)) < rng.beta(a, b, (num_images, 1))).ravel()
        return clustered_proportion(hit_M, np.repeat(np.arange(num_images), 5))

    return draw


def _classes(accuracy_C: NDArray[np.float64], size_C: NDArray[np.int64]):
    label_N = np.repeat(np.arange(len(size_C)), size_C)
    return lambda seed: mean_per_class_accuracy(
        np.random.default_rng(seed).random(len(label_N)) < accuracy_C[label_N], label_N
    )


def _top1_top5(n: int, top1: float, top5: float):
    def draw(seed: int) -> Score:
        u_N = np.random.default_rng(seed).random(n)
        ranked_NK = np.ones((n, 5), np.int64)
        ranked_NK[u_N < top5, 1] = 0
        ranked_NK[u_N < top1, 0] = 0
        return ClassificationResult(ranked_NK, np.zeros(n, np.int64), 10).mean_top1_top5()

    return draw


def _draw_groups(accuracy_G: NDArray[np.float64], size: int, seed: int):
    group_N = np.repeat(np.arange(len(accuracy_G)), size)
    return score_by_group(np.random.default_rng(seed).random(len(group_N)) < accuracy_G[group_N], group_N.tolist())


def _worst_group(accuracy_G: NDArray[np.float64], size: int):
    return lambda seed: _draw_groups(accuracy_G, size, seed).worst


def _gap(accuracy_G: NDArray[np.float64], size: int):
    return lambda seed: _draw_groups(accuracy_G, size, seed).gap
