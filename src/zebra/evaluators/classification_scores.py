"""Scores of a classification dataset: with primary metric and worst group."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.protocols.groups import GroupScores, score_by_group
from zebra.protocols.macro_f1 import macro_f1
from zebra.protocols.zero_shot import ClassificationResult
from zebra.values import Score


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
    groups = [benchmark.groups[sample_id] for sample_id in ids]
    hits = {"worst_group": result.correct_N}
    if result.num_classes > 5:
        hits["worst_group_top5"] = result.correct_top5_N
    hits = {metric: hits[metric] for metric in sorted(hits, key=benchmark.metric.__ne__)}  # the primary metric first
    scored = {metric: score_by_group(hit_N, groups, min_group_size=1) for metric, hit_N in hits.items()}
    worst = {metric: by_group.worst for metric, by_group in scored.items() if by_group.worst}
    notes = tuple(
        _describe_groups(metric, by_group) for metric, by_group in scored.items() if metric == benchmark.metric
    )
    return ClassificationScores(scores | worst, notes)


def _describe_groups(metric: str, groups: GroupScores) -> str:
    """Format the worst group and the share of hits in each."""
    name, score = next(iter(groups.scores.items()))
    shares = ", ".join(f"{group} {score.value:.1%}" for group, score in sorted(groups.scores.items()))
    return f"{metric}: {name} with {score.n:,} images; {shares}"
