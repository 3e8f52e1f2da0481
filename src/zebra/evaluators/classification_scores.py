"""Scores of a classification dataset: with primary metric and worst group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.protocols.group_metrics import find_worst_group, macro_f1
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
    worst = {metric: find_worst_group(hit_N, groups) for metric, hit_N in hits.items()}
    notes = tuple(
        f"{metric}: group {group.name} with {group.size:,} images; {_describe_groups(hits[metric], groups)}"
        for metric, group in worst.items()
    )
    return ClassificationScores(scores | {metric: group.score for metric, group in worst.items()}, notes)


def _describe_groups(hit_N: NDArray[np.bool_], groups: Sequence[str]) -> str:
    """Format the share of hits in each group."""
    group_N = np.asarray(groups, dtype=str)
    shares = {name: hit_N[group_N == name].mean() for name in sorted(set(groups))}
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
