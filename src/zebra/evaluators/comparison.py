"""Two models and pictures that nothing depends on in; what the one has over the other, with intervals, out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.evaluators.results_io import EvalMetrics
from zebra.evaluators.validation import RetrievalValidator
from zebra.protocols.paired_test import PairedComparison, SampleScores, compare_paired
from zebra.protocols.retrieval import RetrievalRanks
from zebra.report.page import ReportTable, Section
from zebra.report.style import format_percent
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class MetricDelta:
    """One measure of the model before and after."""

    dataset: str
    metric: str
    before: Score
    after: Score
    paired_test: PairedComparison
    """After against before, picture by picture."""

    def __str__(self) -> str:
        """Write it on a line."""
        return (
            f"{self.dataset:<16} {self.metric:<24} {self.before.value:6.1%} → {self.after.value:6.1%}  ({self.formatted_delta}, "
            f"n={self.before.n:,})"
        )

    @property
    def formatted_delta(self) -> str:
        """The difference with its interval, in points."""
        by = self.paired_test.difference
        return f"{100 * by.value:+.1f} [{100 * by.low:+.1f}, {100 * by.high:+.1f}]"


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """What a run has made of the model it started from, on pictures that nothing depends on."""

    init_from: str
    selected_step: int
    """The step whose weights are kept; 0: the start's own, since none did better on the pictures to choose by."""
    deltas: tuple[MetricDelta, ...]

    def metrics(self) -> EvalMetrics:
        """Return set → "before" and "after" → metric → score."""
        found: dict[str, dict[str, dict[str, Score]]] = {}
        for one in self.deltas:
            tasks = found.setdefault(one.dataset, {"before": {}, "after": {}})
            tasks["before"][one.metric], tasks["after"][one.metric] = one.before, one.after
        return found

    def model_card_entries(self) -> dict[str, str]:
        """Say in the model card where the model comes from."""
        origin = {
            "started from": Path(self.init_from).name,
            "kept": f"step {self.selected_step}" if self.selected_step else "the start",
        }
        return origin | {
            f"{one.metric} on {one.dataset}": f"{one.before.value:.1%} → {one.after.value:.1%} ({one.formatted_delta} points)"
            for one in self.deltas
        }

    def before_after_section(self) -> Section:
        """Put the model before and after beside each other."""
        chosen = (
            f"The weights after step {self.selected_step} did best on the pictures they were chosen by."
            if self.selected_step
            else "No weights did better than the start on the pictures to choose by, so the start is kept."
        )
        reading = (
            f"{chosen} All this is measured on other pictures, on which nothing depends. Differences are paired, in "
            "points, with 95 % intervals."
        )
        rows = tuple(
            (
                one.dataset,
                one.metric,
                _format_score(one.before),
                _format_score(one.after),
                one.formatted_delta,
                f"{one.before.n:,}",
            )
            for one in self.deltas
        )
        columns = ("set", "metric", "before", "after", "difference", "n")
        return Section("Before and after", reading, ReportTable(columns, rows))


def compare_retrieval(before: RetrievalRanks, after: RetrievalRanks, ids: Sequence[str]) -> list[MetricDelta]:
    """Compare two models on held-out pictures, by recall both ways."""
    captions = [str(m) for m in range(len(before.image_rank_M))]
    ways = {
        "image_to_text": (before.text_rank_N, after.text_rank_N, ids),
        "text_to_image": (before.image_rank_M, after.image_rank_M, captions),
    }
    was, now = before.scores(), after.scores()
    return [
        MetricDelta(
            RetrievalValidator.name,
            metric,
            was[metric],
            now[metric],
            compare_correctness(was_N <= k, now_N <= k, names),
        )
        for way, (was_N, now_N, names) in ways.items()
        for k in (1, 5)
        if (metric := f"{way}_recall@{k}") in was
    ]


def compare_correctness(
    before_N: NDArray[np.bool_], after_N: NDArray[np.bool_], ids: Sequence[str]
) -> PairedComparison:
    """Compare two outcomes on the same samples, the later against the earlier."""
    return compare_paired(SampleScores(tuple(ids), after_N), SampleScores(tuple(ids), before_N))


def _format_score(score: Score) -> str:
    return f"{format_percent(score.value)} [{format_percent(score.low)}, {format_percent(score.high)}]"
