"""How often labels are predicted in each group of images (CLIP Tables 6 and 7)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zebra.errors import DataError, suggest_name
from zebra.protocols.groups import CAVEATS, score_by_group
from zebra.protocols.metrics import proportion
from zebra.report.page import ReportTable, Section
from zebra.report.style import format_score
from zebra.studies.groups import match_groups
from zebra.studies.result import StudyResult
from zebra.studies.runs import load_predictions


def study_predicted(run_dir: Path, dataset: str, table: Path, column: str, labels: Sequence[str]) -> StudyResult:
    """Count the images of each group that are predicted as one of several labels.

    Args:
        run_dir: A directory that `zebra evaluate` wrote.
        dataset: Name of the dataset.
        table: CSV, TSV, JSONL or Parquet with image ids in the column `id`, or the table that was evaluated.
        column: The column that names the group of each image.
        labels: Names of classes.

    Raises:
        DataError: The run has no predictions on the dataset, a label is never predicted and no class of an image, or
            the table lacks the column or an image.
    """
    predictions = load_predictions(run_dir, dataset)
    names = predictions["predicted_name"].to_pylist()
    groups = match_groups(predictions["id"].to_pylist(), table, column, dataset)
    known = {*names, *predictions["label_name"].to_pylist()}
    notes = [f"{label!r} is predicted for no image" for label in labels if label not in known]
    if len(notes) == len(labels):
        raise DataError(f"none of the labels is predicted for an image.{suggest_name(labels[0], known)}")
    is_predicted_N = np.isin(names, list(labels))
    fractions = score_by_group(is_predicted_N, groups).scores
    overall = proportion(int(is_predicted_N.sum()), len(names))
    rows = tuple((group, format_score(score), f"{score.n:,}") for group, score in fractions.items())
    summary = (
        f"Images that are predicted as {', '.join(labels)}: {format_score(overall)} of all. These numbers depend on "
        "which classes there are: another set of labels is another classifier."
    )
    section = Section(f"{dataset} by {column}", summary, ReportTable((column, "predicted so", "images"), rows))
    scores = {"groups": fractions, "all images": {"predicted": overall}}
    return StudyResult(f"Predictions of {', '.join(labels)}", scores, (*notes, *CAVEATS), (section,))
