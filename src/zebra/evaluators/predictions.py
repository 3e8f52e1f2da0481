"""Predictions as tables, one row per image or question."""

from collections.abc import Sequence

import pyarrow as pa

from zebra.protocols.zero_shot import ClassificationResult


def build_classification_predictions(ids: Sequence[str], result: ClassificationResult) -> pa.Table:
    """Return the columns id, label, ranked (classes, best first) and correct."""
    return pa.table(
        {"id": list(ids), "label": result.label_N, "ranked": list(result.ranked_NK), "correct": result.correct_N}
    )
