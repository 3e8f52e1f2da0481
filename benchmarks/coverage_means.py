"""Cases for differences and means of scores: paired tests, few-shot probes, means over datasets."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from coverage_cases import Case, IntervalCase, TestCase
from zebra.protocols.few_shot import FewShotResult
from zebra.protocols.metrics import average_scores, proportion, subtract_scores
from zebra.protocols.paired_test import PairedComparison, SampleScores, compare_paired
from zebra.protocols.suite_mean import suite_mean
from zebra.protocols.zero_shot import ClassificationResult
from zebra.values import Score


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    for n, accuracy, discordant in (
        (100, 0.6, 0.3),
        (300, 0.6, 0.2),
        (1000, 0.75, 0.1),
        (1000, 0.9, 0.02),
        (5000, 0.76, 0.1),
    ):
        settings = f"{n:,} images, accuracy {accuracy}, {discordant:.0%} differ"
        for name, p_value in (
            ("paired bootstrap", lambda comparison: comparison.p_value),
            ("McNemar's test", lambda comparison: comparison.mcnemar_p_value),
        ):
            yield TestCase(
                name, settings, lambda seed, f=p_value, s=(n, accuracy, discordant): f(_compare(*s, 0.0, seed))
            )
        yield IntervalCase(
            "paired difference",
            settings,
            0.01,
            lambda seed, s=(n, accuracy, discordant): _compare(*s, 0.01, seed).difference,
        )
    for n in (200, 2000):
        settings = f"{n:,} images in two halves, accuracies 0.8 and 0.7"
        yield IntervalCase("difference of independent scores", settings, 0.1, _difference(n))
    for num_datasets, n in ((2, 600), (7, 2000), (27, 1000), (38, 200)):
        accuracy_D = np.linspace(0.3, 0.95, num_datasets)
        settings = f"{num_datasets} datasets of {n:,} images, accuracy 0.3 to 0.95"
        yield IntervalCase("mean over datasets", settings, float(accuracy_D.mean()), _mean(accuracy_D, n))
    accuracy_D = np.linspace(0.3, 0.95, 12)
    groups = [*"aaaaaaabbbcc"]
    group_means = [accuracy_D[[group == name for group in groups]].mean() for name in "abc"]
    settings = "12 datasets of 500 images in groups of 7, 3 and 2"
    yield IntervalCase("suite mean of groups", settings, float(np.mean(group_means)), _group_mean(accuracy_D, groups))
    for correlation in (1.0, 0.5):
        settings = f"6 scores on the same 500 images, correlation {correlation}, and 6 on images of their own"
        yield IntervalCase("suite mean with shared images", settings, 0.7, _shared_mean(500, correlation))
    for num_repeats, n, draw_std, agreement in (
        (3, 600, 0.03, 0.5), (3, 600, 0.003, 0.5), (3, 5000, 0.02, 0.5), (3, 2000, 0.01, 0.9), (10, 1000, 0.03, 0.5),
    ):  # fmt: skip
        settings = f"{num_repeats} draws, {n:,} images, accuracy 0.6 ± {draw_std} over draws, correlation {agreement}"
        yield IntervalCase("few-shot mean", settings, 0.6, _few_shot(num_repeats, n, draw_std, agreement))


def _group_mean(accuracy_D: NDArray[np.float64], groups: list[str]) -> Callable[[int], Score]:
    def draw(seed: int) -> Score:
        num_correct_D = np.random.default_rng(seed).binomial(500, accuracy_D)
        return suite_mean([proportion(int(k), 500) for k in num_correct_D], groups)

    return draw


def _shared_mean(n: int, correlation: float) -> Callable[[int], Score]:
    """Draw six scores on the same images, each of which copies the first one's outcome with some probability."""

    def draw(seed: int) -> Score:
        rng = np.random.default_rng(seed)
        correct_N = rng.random(n) < 0.7
        shared = [np.where(rng.random(n) < correlation**0.5, correct_N, rng.random(n) < 0.7) for _ in range(6)]
        own = [rng.random(n) < 0.7 for _ in range(6)]
        scores = [proportion(int(hit_N.sum()), n) for hit_N in (*shared, *own)]
        return suite_mean(scores, collections=[*["shared"] * 6, *[""] * 6])

    return draw


def _compare(n: int, accuracy: float, discordant: float, difference: float, seed: int) -> PairedComparison:
    u_N = np.random.default_rng(seed).random(n)
    only_first, only_second = (discordant + difference) / 2, (discordant - difference) / 2
    both_N = u_N < accuracy - only_first
    first_N = both_N | ((u_N >= accuracy - only_first) & (u_N < accuracy))
    second_N = both_N | ((u_N >= accuracy) & (u_N < accuracy + only_second))
    ids = tuple(map(str, range(n)))
    return compare_paired(SampleScores(ids, first_N), SampleScores(ids, second_N), seed=seed)


def _difference(n: int):
    def draw(seed: int) -> Score:
        rng = np.random.default_rng(seed)
        first, second = (proportion(int(rng.binomial(n // 2, accuracy)), n // 2) for accuracy in (0.8, 0.7))
        return subtract_scores(first, second)

    return draw


def _mean(accuracy_D: NDArray[np.float64], n: int):
    def draw(seed: int) -> Score:
        rng = np.random.default_rng(seed)
        return average_scores([proportion(int(rng.binomial(n, accuracy)), n) for accuracy in accuracy_D])

    return draw


def _few_shot(num_repeats: int, n: int, draw_std: float, agreement: float):
    """Images of different difficulty, classified by probes of different accuracy, which is 0.6 in the mean."""

    def draw(seed: int) -> Score:
        rng = np.random.default_rng(seed)
        a, b = 0.6 * (1 - agreement) / agreement, 0.4 * (1 - agreement) / agreement
        chance_N = rng.beta(a, b, n)  # of an image to be classified correctly
        results = []
        for shift in rng.normal(0, draw_std, num_repeats):
            # Turn wrong answers into right ones, or the reverse, to shift the accuracy.
            correct_N = rng.random(n) < chance_N
            flip_N = rng.random(n) < abs(shift) / (0.4 if shift > 0 else 0.6)
            correct_N = np.where(flip_N, shift > 0, correct_N)
            ranked_NK = np.where(correct_N, 0, 1)[:, None]
            results.append(ClassificationResult(ranked_NK, np.zeros(n, np.int64), 2))
        return FewShotResult(4, tuple(results), 0).mean_accuracy()

    return draw
