"""Cases for the paper's data efficiency, pm-k frames and RareAct."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import norm

from coverage_cases import Case, IntervalCase
from zebra.data.benchmarks.tasks import ActionAnnotations
from zebra.protocols.actions import score_actions
from zebra.protocols.data_efficiency import EfficiencySummary, ProbeCurve, summarize_data_efficiency
from zebra.protocols.frame_sets import score_frame_sets
from zebra.protocols.metrics import proportion
from zebra.values import Score

LABELS = (1.0, 2.0, 4.0, 8.0, 16.0, 256.0)
NUM_TRUTH_DRAWS = 500
"""Datasets whose mean score is the true value of average precision, which depends on the size of the dataset."""


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    yield from _efficiency_cases()
    yield from _frame_set_cases()
    yield from _action_cases()


def _efficiency_cases() -> Iterator[Case]:
    for num_datasets, n in ((1, 2000), (9, 2000), (27, 5000)):
        # Dataset d has a probe that is certain at more labels, and zero-shot between 2 and 64 labels per class.
        true_D = 2 ** np.linspace(1, 4, num_datasets) * 1.3

        def draw(seed: int, n: int = n, true_D: np.ndarray = true_D) -> EfficiencySummary:
            rng = np.random.default_rng(seed)
            curves = {}
            for number, labels in enumerate(true_D):
                accuracies = [_accuracy(count) for count in LABELS]
                probes = {
                    count: proportion(int(rng.binomial(n, value)), n)
                    for count, value in zip(LABELS, accuracies, strict=True)
                }
                zero_shot = float(np.interp(np.log2(labels), np.log2(LABELS), accuracies))
                curves[str(number)] = ProbeCurve(probes, proportion(int(rng.binomial(n, zero_shot)), n))
            return summarize_data_efficiency(curves, seed=seed)

        settings = f"{num_datasets} datasets of {n:,} images"
        yield IntervalCase("labels per class", settings, float(true_D[0]), lambda s, draw=draw: draw(s).labels["0"])
        if num_datasets > 1:
            yield IntervalCase("median labels", settings, float(np.median(true_D)), lambda s, draw=draw: draw(s).median)
            yield IntervalCase("mean labels", settings, float(true_D.mean()), lambda s, draw=draw: draw(s).mean)


def _accuracy(labels: float) -> float:
    """Return the accuracy of a probe with this number of labels per class."""
    return float(0.3 + 0.07 * np.log2(labels))


def _frame_set_cases() -> Iterator[Case]:
    for n, accuracy in ((100, 0.7), (1109, 0.95)):
        threshold = float(norm.ppf(accuracy))
        # All frames of a set share a part of their difficulty.
        grid = np.random.default_rng(10**6).normal(size=200_000)
        shared = norm.cdf((threshold - np.sqrt(0.8) * grid) / np.sqrt(0.2))
        truth = {"pm0": accuracy, "pm10": float((shared**21).mean())}

        def draw(seed: int, n: int = n, threshold: float = threshold) -> dict[str, Score]:
            rng = np.random.default_rng(seed)
            value_NK = np.sqrt(0.8) * rng.normal(size=(n, 1)) + np.sqrt(0.2) * rng.normal(size=(n, 21))
            frame_sets = np.arange(n * 21).reshape(n, 21).tolist()
            return dict(score_frame_sets((value_NK < threshold).ravel(), frame_sets))

        for metric, value in (*truth.items(), ("pm0_pm10", sum(truth.values()) / 2)):
            yield IntervalCase(metric, f"{n:,} anchors, {accuracy}", value, lambda s, m=metric, draw=draw: draw(s)[m])


def _action_cases() -> Iterator[Case]:
    for num_videos, separation in ((60, 1.5), (300, 1.5)):
        for metric in ("mwap", "msap"):

            def draw(seed: int, v: int = num_videos, separation: float = separation, metric: str = metric) -> Score:
                return score_actions(*_draw_actions(v, separation, np.random.default_rng(seed)), seed=seed)[metric]

            def truth(draw: Callable[[int], Score] = draw) -> float:
                """Return the mean score over datasets of this size, of which the interval is."""
                return float(np.mean([draw(10**6 + number).value for number in range(NUM_TRUTH_DRAWS)]))

            yield IntervalCase(metric, f"{num_videos} videos of 4 clips, 4 actions", truth, draw)


def _draw_actions(num_videos: int, separation: float, rng: np.random.Generator) -> tuple[np.ndarray, ActionAnnotations]:
    """Draw scores and annotations; the clips of a video are about one action and have similar scores."""
    actions = (("cut", "cable"), ("cut", "phone"), ("blend", "phone"), ("hammer", "egg"))
    video_N = np.repeat(np.arange(num_videos), 4)
    class_N = rng.integers(0, len(actions), num_videos)[video_N]
    annotation_N = rng.choice(5, size=len(video_N), p=(0.3, 0.4, 0.1, 0.1, 0.1))
    shows_NC = (class_N[:, None] == np.arange(len(actions))) & (annotation_N == 1)[:, None]
    noise_NC = rng.normal(size=(num_videos, len(actions)))[video_N] + rng.normal(size=(len(video_N), len(actions)))
    score_NC = (noise_NC / np.sqrt(2) + separation * shows_NC).astype(np.float32)
    return score_NC, ActionAnnotations(video_N, class_N, annotation_N, actions)
