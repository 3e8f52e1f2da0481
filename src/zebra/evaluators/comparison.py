"""Comparison of a model before and after fine-tuning on held-out data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.evaluators.results_io import EvalMetrics
from zebra.evaluators.validation import RetrievalValidator
from zebra.protocols.paired_test import PairedComparison, SampleScores, compare_paired
from zebra.protocols.retrieval import RetrievalRanks
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class MetricDelta:
    """One metric before and after fine-tuning."""

    dataset: str
    metric: str
    before: Score
    after: Score
    paired_test: PairedComparison
    """The model after fine-tuning against the model before, sample by sample."""

    def __str__(self) -> str:
        """Format as one line for the terminal."""
        return (
            f"{self.dataset:<16} {self.metric:<24} {self.before.value:6.1%} → {self.after.value:6.1%}  "
            f"({self.formatted_delta}, n={self.before.n:,})"
        )

    @property
    def formatted_delta(self) -> str:
        """The difference with its interval, in percentage points."""
        difference = self.paired_test.difference
        return f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """Effect of fine-tuning on data that neither training nor checkpoint selection used."""

    init_from: str
    """The initial model."""
    selected_step: int
    """Step of the selected weights; 0 for the initial weights, which no checkpoint has surpassed in validation."""
    deltas: tuple[MetricDelta, ...]
    alpha: float = 1.0
    """Share of the trained weights in the average with the initial weights (WiSE-FT); 1 is no average."""

    @property
    def selection(self) -> str:
        """Which weights were selected."""
        if not self.selected_step:
            return "initial weights"
        share = f", averaged with {1 - self.alpha:.0%} of the initial weights" if self.alpha < 1 else ""
        return f"step {self.selected_step}{share}"

    def metrics(self) -> EvalMetrics:
        """Return dataset → "before" and "after" → metric → score."""
        metrics: dict[str, dict[str, dict[str, Score]]] = {}
        for delta in self.deltas:
            tasks = metrics.setdefault(delta.dataset, {"before": {}, "after": {}})
            tasks["before"][delta.metric], tasks["after"][delta.metric] = delta.before, delta.after
        return metrics

    def model_card_entries(self) -> dict[str, str]:
        """Return the model card's entries on the initial model and the effect of fine-tuning."""
        origin = {"initialized from": Path(self.init_from).name, "selected checkpoint": self.selection}
        return origin | {
            f"{delta.metric} on {delta.dataset}": (
                f"{delta.before.value:.1%} → {delta.after.value:.1%} ({delta.formatted_delta} points)"
            )
            for delta in self.deltas
        }


def compare_retrieval(before: RetrievalRanks, after: RetrievalRanks, ids: Sequence[str]) -> list[MetricDelta]:
    """Compare recall at 1 and 5 of two models on the same held-out pairs, in both directions.

    Args:
        ids: Ids of the N images.
    """
    caption_ids = [str(m) for m in range(len(before.image_rank_M))]
    directions = {
        "image_to_text": (before.text_rank_N, after.text_rank_N, ids),
        "text_to_image": (before.image_rank_M, after.image_rank_M, caption_ids),
    }
    scores_before, scores_after = before.scores(), after.scores()
    return [
        MetricDelta(
            RetrievalValidator.name,
            metric,
            scores_before[metric],
            scores_after[metric],
            compare_correctness(rank_before <= k, rank_after <= k, sample_ids),
        )
        for direction, (rank_before, rank_after, sample_ids) in directions.items()
        for k in (1, 5)
        if (metric := f"{direction}_recall@{k}") in scores_before
    ]


def compare_correctness(
    before_N: NDArray[np.bool_], after_N: NDArray[np.bool_], ids: Sequence[str]
) -> PairedComparison:
    """Compare which samples are correct after against before."""
    return compare_paired(SampleScores(tuple(ids), after_N), SampleScores(tuple(ids), before_N))
