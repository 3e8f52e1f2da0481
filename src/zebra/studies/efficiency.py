"""Labels per class of a linear probe that equals zero-shot (CLIP Fig. 7)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from zebra.errors import DataError
from zebra.evaluators.results_io import ResultRecord
from zebra.protocols.data_efficiency import ProbeCurve, summarize_data_efficiency
from zebra.report import transfer_figures as figures
from zebra.report.page import Section
from zebra.studies.result import StudyResult
from zebra.studies.runs import load_task_records, select_datasets
from zebra.values import Score

NEEDED = (
    "few-shot probes with a full probe in this run. Run: zebra evaluate MODEL DATASET --tasks few-shot,linear-probe "
    "--out RUN."
)
_FEW_SHOT = re.compile(r"few-shot-\d+")
_BOUND_PREFIXES = {"exactly": "", "below": "fewer than ", "above": "more than "}


def study_efficiency(run_dir: Path, datasets: Sequence[str] = ()) -> StudyResult:
    """Compare the few-shot and linear probes of a run with zero-shot on the same images.

    Args:
        run_dir: A directory that `zebra evaluate --tasks few-shot,linear-probe` wrote.
        datasets: Names of datasets; by default all that have these results.

    Raises:
        DataError: A dataset lacks them.
    """
    curves = {
        name: curve for name, records in load_task_records(run_dir).items() if (curve := _build_curve(name, records))
    }
    names = select_datasets(curves, datasets, NEEDED)
    summary = summarize_data_efficiency({name: curves[name] for name in names})
    texts = {
        name: f"{_BOUND_PREFIXES[match.bound]}{match.labels_per_class:.3g}" for name, match in summary.matches.items()
    }
    notes = []
    if outside := [name for name, match in summary.matches.items() if match.bound != "exactly"]:
        notes.append(
            f"outside the curve, so counted with its end: {', '.join(f'{name} ({texts[name]})' for name in outside)}"
        )
    description = (
        f"A linear probe on the features of this model needs {_describe(summary.median)} labels per class at the "
        f"median of {len(names)} datasets to match zero-shot accuracy, {_describe(summary.mean)} on average. Accuracy "
        "is interpolated linearly in the logarithm of the labels."
    )
    labels = dict(sorted(summary.labels.items(), key=lambda item: -item[1].value))
    figure = figures.plot_labels_per_class(labels, texts, summary.median.value, summary.mean.value)
    return StudyResult(
        "Labels per class of a probe that equals zero-shot",
        {"labels per class": labels, "over datasets": {"median": summary.median, "mean": summary.mean}},
        tuple(notes),
        (Section("Data efficiency of zero-shot", " ".join((description, *notes)), figure),),
    )


def _build_curve(dataset: str, records: Mapping[str, ResultRecord]) -> ProbeCurve | None:
    """Return the probes of a dataset by their labels; None if there are no few-shot probes or no full one."""
    few_shot = [record for task, record in records.items() if _FEW_SHOT.fullmatch(task)]
    full, zero_shot = records.get("linear-probe"), records.get("few-shot-zero-shot")
    if not few_shot or full is None or zero_shot is None:
        return None
    if not full.labels_per_class:
        raise DataError(
            f"the linear probe on {dataset} has no number of labels per class: an older zebra evaluated it. Evaluate "
            "it again."
        )
    # A few-shot probe with as many labels as the smallest class has may have as many as the full probe.
    probes = {record.labels_per_class: record.score for record in few_shot}
    probes = {count: probes[count] for count in sorted(probes) if count < full.labels_per_class}
    return ProbeCurve(probes | {full.labels_per_class: full.score}, zero_shot.score)


def _describe(score: Score) -> str:
    return f"{score.value:.1f} [{score.low:.1f}, {score.high:.1f}]"
