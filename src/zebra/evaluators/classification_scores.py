"""Scores of a classification dataset, with its primary metric and worst group."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.protocols.groups import GroupScores, score_by_group
from zebra.protocols.macro_f1 import macro_f1
from zebra.protocols.zero_shot import ClassificationResult
from zebra.values import Score

TOP5_METRIC = "worst_group_top5"


@dataclass(frozen=True, slots=True)
class ClassificationScores:
    """Scores by metric, with notes on them."""

    scores: dict[str, Score]
    notes: tuple[str, ...] = ()


def score_classification(
    result: ClassificationResult, benchmark: ClassificationBenchmark, ids: Sequence[str]
) -> ClassificationScores:
    """Return all scores of a result, among them the dataset's primary metric.

    Args:
        result: Predictions on all images or a part of them.
        benchmark: The dataset.
        ids: Ids of the images, in the order of the result.
    """
    scores = result.scores()
    if benchmark.metric == "mean_top1_top5":
        scores["mean_top1_top5"] = result.mean_top1_top5()
    if benchmark.metric == "macro_f1":
        scores["macro_f1"] = macro_f1(result.ranked_NK[:, 0], result.label_N)
    if benchmark.groups is None:
        return ClassificationScores(scores)
    metric = TOP5_METRIC if benchmark.metric == TOP5_METRIC else "worst_group"
    hit_N = result.correct_top5_N if metric == TOP5_METRIC else result.correct_N
    groups = score_by_group(hit_N, [benchmark.groups[sample_id] for sample_id in ids], min_group_size=1)
    assert groups.worst is not None  # no group is too small
    return ClassificationScores(scores | {metric: groups.worst}, (_describe_groups(metric, groups),))


def _describe_groups(metric: str, groups: GroupScores) -> str:
    """Format the worst group and the share of hits in each."""
    name, score = next(iter(groups.scores.items()))
    shares = ", ".join(f"{group} {score.value:.1%}" for group, score in sorted(groups.scores.items()))
    return f"{metric}: {name} with {score.n:,} images; {shares}"
