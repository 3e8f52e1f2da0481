"""Cases for DataComp's metrics: worst group of any size, macro F1, Jaccard indices and mean recall."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from coverage_cases import Case, IntervalCase
from zebra.protocols.clustered_means import clustered_mean
from zebra.protocols.groups import score_by_group
from zebra.protocols.macro_f1 import macro_f1
from zebra.protocols.retrieval import RetrievalRanks
from zebra.values import Score

NUM_TRUTH = 2000
"""Datasets whose mean is the true value of a score that is defined for datasets of a size."""
WORST_GROUPS: dict[str, tuple[list[int], list[float]]] = {
    "4 groups of 876 like Dollar Street, one clearly worst": ([876] * 4, [0.5, 0.62, 0.7, 0.78]),
    "6 groups of 2,000 like GeoDE, two nearly worst": ([2000] * 6, [0.88, 0.885, 0.91, 0.92, 0.92, 0.93]),
    "5 large groups and one of 4 like FMoW": ([4963, 5858, 2593, 8024, 666, 4], [0.35, 0.4, 0.25, 0.38, 0.4, 0.3]),
}


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    for settings, (sizes, accuracies) in WORST_GROUPS.items():
        yield IntervalCase("worst group", settings, min(accuracies), _worst_group(sizes, accuracies))
    for num_classes, n, accuracy in ((2, 300, 0.8), (10, 500, 0.5), (60, 3000, 0.3)):
        labels_of, truth = _predictions(num_classes, n, accuracy)
        settings = f"{n:,} images of {num_classes} classes of unequal size, accuracy {accuracy}; mean of such datasets"
        yield IntervalCase("macro F1", settings, truth, lambda seed, f=labels_of: macro_f1(*f(seed)))
    for num_sets, questions in ((30, 4), (300, 5)):
        settings = f"{num_sets} sets of images with {questions} questions each"
        truth = float(np.mean([_jaccard(num_sets, questions, -1 - seed).value for seed in range(NUM_TRUTH)]))
        yield IntervalCase(
            "mean Jaccard index", settings, truth, lambda seed, s=(num_sets, questions): _jaccard(*s, seed)
        )
    for n in (100, 1000):
        yield IntervalCase("mean recall at 1", f"{n:,} images with 5 captions each", 0.4, _recall(n))


def _worst_group(sizes: list[int], accuracies: list[float]) -> Callable[[int], Score]:
    groups = [name for name, size in enumerate(sizes) for _ in range(size)]
    names, accuracy_N = [str(name) for name in groups], np.array(accuracies)[groups]

    def draw(seed: int) -> Score:
        hit_N = np.random.default_rng(seed).random(len(names)) < accuracy_N
        worst = score_by_group(hit_N, names, min_group_size=1).worst
        assert worst is not None
        return worst

    return draw


def _predictions(num_classes: int, n: int, accuracy: float):
    """Return a function that draws (predictions, labels), and the mean macro F1 of its datasets."""
    rng = np.random.default_rng(0)
    class_C = rng.dirichlet(np.full(num_classes, 2.0))
    confusion_CC = (1 - accuracy) * rng.dirichlet(np.full(num_classes, 0.3), size=num_classes)
    confusion_CC[np.diag_indices(num_classes)] += accuracy
    cumulative_CC = confusion_CC.cumsum(axis=1)

    def draw(seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rng = np.random.default_rng(seed)
        label_N = rng.choice(num_classes, n, p=class_C)
        predicted_N = (cumulative_CC[label_N] < rng.random(n)[:, None]).sum(axis=1)
        return np.minimum(predicted_N, num_classes - 1), label_N

    return draw, float(np.mean([_f1(*draw(10**6 + seed), num_classes) for seed in range(NUM_TRUTH)]))


def _f1(predicted_N: NDArray[np.int64], label_N: NDArray[np.int64], num_classes: int) -> float:
    true_C, positive_C = (np.bincount(x_N, minlength=num_classes) for x_N in (label_N, predicted_N))
    hit_C = np.bincount(label_N[label_N == predicted_N], minlength=num_classes)
    return float((2 * hit_C / np.maximum(true_C + positive_C, 1))[true_C > 0].mean())


def _jaccard(num_sets: int, questions: int, seed: int) -> Score:
    """Two of the images of each question are to be chosen; sets of images differ in difficulty."""
    rng = np.random.default_rng(abs(seed) + (10**6 if seed < 0 else 0))
    chance_Q1 = expit(rng.normal(0, 0.7, num_sets).repeat(questions))[:, None]
    num_hits_Q = (rng.random((num_sets * questions, 2)) < chance_Q1).sum(axis=1)
    return clustered_mean(num_hits_Q / (4 - num_hits_Q), np.arange(num_sets).repeat(questions))


def _recall(n: int) -> Callable[[int], Score]:
    """Images that are easy to find have captions that are easy to find; 0.5 and 0.3 are the mean recalls."""

    def draw(seed: int) -> Score:
        rng = np.random.default_rng(seed)
        chance_N = expit(rng.normal(0, 1, n))
        text_rank_N = np.where(rng.random(n) < chance_N, 1, 2)
        image_rank_M = np.where(rng.random(5 * n) < 0.6 * chance_N.repeat(5), 1, 2)
        owners_M, none_N = np.arange(n).repeat(5), np.zeros(n, np.int64)
        return RetrievalRanks(text_rank_N, image_rank_M, owners_M, none_N, none_N, 0).mean_recall_at_1()

    return draw
