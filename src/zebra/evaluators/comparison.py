"""Two models and pictures that nothing depends on in; what the one has over the other, with intervals, out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.evaluators.results_io import Metrics
from zebra.evaluators.validation import HeldOut
from zebra.protocols.paired_test import Comparison, Outcomes, compare
from zebra.protocols.retrieval import Retrieval
from zebra.report.page import Section, Table
from zebra.report.style import percent
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of the model before and after."""

    set: str
    metric: str
    before: Score
    after: Score
    test: Comparison
    """After against before, picture by picture."""

    def __str__(self) -> str:
        """Write it on a line."""
        return (
            f"{self.set:<16} {self.metric:<24} {self.before.value:6.1%} → {self.after.value:6.1%}  ({self.points}, "
            f"n={self.before.n:,})"
        )

    @property
    def points(self) -> str:
        """The difference with its interval, in points."""
        by = self.test.difference
        return f"{100 * by.value:+.1f} [{100 * by.low:+.1f}, {100 * by.high:+.1f}]"


@dataclass(frozen=True, slots=True)
class Gain:
    """What a run has made of the model it started from, on pictures that nothing depends on."""

    start: str
    kept: int
    """The step whose weights are kept; 0: the start's own, since none did better on the pictures to choose by."""
    differences: tuple[Difference, ...]

    def metrics(self) -> Metrics:
        """Return set → "before" and "after" → metric → score."""
        found: dict[str, dict[str, dict[str, Score]]] = {}
        for one in self.differences:
            tasks = found.setdefault(one.set, {"before": {}, "after": {}})
            tasks["before"][one.metric], tasks["after"][one.metric] = one.before, one.after
        return found

    def facts(self) -> dict[str, str]:
        """Say in the model card where the model comes from."""
        origin = {
            "started from": Path(self.start).name,
            "kept": f"step {self.kept}" if self.kept else "the start",
        }
        return origin | {
            f"{one.metric} on {one.set}": f"{one.before.value:.1%} → {one.after.value:.1%} ({one.points} points)"
            for one in self.differences
        }

    def section(self) -> Section:
        """Put the model before and after beside each other."""
        chosen = (
            f"The weights after step {self.kept} did best on the pictures they were chosen by."
            if self.kept
            else "No weights did better than the start on the pictures to choose by, so the start is kept."
        )
        reading = (
            f"{chosen} All this is measured on other pictures, on which nothing depends. Differences are paired, in "
            "points, with 95 % intervals."
        )
        rows = tuple(
            (one.set, one.metric, _shown(one.before), _shown(one.after), one.points, f"{one.before.n:,}")
            for one in self.differences
        )
        columns = ("set", "metric", "before", "after", "difference", "n")
        return Section("Before and after", reading, Table(columns, rows))


def differences(before: Retrieval, after: Retrieval, ids: Sequence[str]) -> list[Difference]:
    """Compare two models on held-out pictures, by recall both ways."""
    captions = [str(m) for m in range(len(before.image_rank_M))]
    ways = {
        "image_to_text": (before.text_rank_N, after.text_rank_N, ids),
        "text_to_image": (before.image_rank_M, after.image_rank_M, captions),
    }
    was, now = before.scores(), after.scores()
    return [
        Difference(HeldOut.name, metric, was[metric], now[metric], paired(was_N <= k, now_N <= k, names))
        for way, (was_N, now_N, names) in ways.items()
        for k in (1, 5)
        if (metric := f"{way}_recall@{k}") in was
    ]


def paired(was_N: NDArray[np.bool_], is_N: NDArray[np.bool_], ids: Sequence[str]) -> Comparison:
    """Compare two outcomes on the same samples, the later against the earlier."""
    return compare(Outcomes(tuple(ids), is_N), Outcomes(tuple(ids), was_N))


def _shown(score: Score) -> str:
    return f"{percent(score.value)} [{percent(score.low)}, {percent(score.high)}]"
