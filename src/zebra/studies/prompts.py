"""The gain of prompt engineering and ensembling (CLIP Fig. 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zebra.errors import ConfigError, DataError
from zebra.evaluators.predictions import get_sample_scores
from zebra.evaluators.results_io import ResultRecord
from zebra.protocols.metrics import average_scores
from zebra.protocols.paired_test import compare_paired
from zebra.report import study_figures, transfer_figures
from zebra.report.page import ReportTable, Section
from zebra.studies.result import StudyResult
from zebra.studies.runs import PRIMARY_METRIC, load_predictions, load_task_records, select_datasets, shorten_run_names
from zebra.values import Score

ALL_PROMPTS, ONE_PROMPT, BARE_NAME = "zero-shot", "zero-shot-one-prompt", "zero-shot-bare-name"
NEEDED = (
    "zero-shot scores with bare class names in every run. Run: zebra evaluate MODEL DATASET --tasks zero-shot,prompts "
    "--out RUN."
)


@dataclass(frozen=True, slots=True)
class PromptGains:
    """Differences of zero-shot accuracy on the same images, by dataset."""

    total: Mapping[str, Score]
    """All prompts minus the bare class name."""
    engineering: Mapping[str, Score]
    """The first prompt minus the bare class name."""
    ensembling: Mapping[str, Score]
    """All prompts minus the first prompt."""


def study_prompts(
    run_dirs: Sequence[Path], datasets: Sequence[str] = (), compute: Sequence[float] = (), unit: str = ""
) -> StudyResult:
    """Compare zero-shot accuracy with all prompts, with one and with the bare class name.

    Args:
        run_dirs: Directories that `zebra evaluate --tasks zero-shot,prompts` wrote, one for each model.
        datasets: Names of datasets; by default all that every run has.
        compute: The compute of each run in `unit`, for a figure of accuracy against compute; or none.

    Raises:
        DataError: A run lacks a dataset, or has other images in one of the tasks.
        ConfigError: There is not one compute value for each run.
    """
    if compute and len(compute) != len(run_dirs):
        raise ConfigError(f"{len(compute)} compute values but {len(run_dirs)} runs. Give one for each run.")
    run_names = shorten_run_names(run_dirs)
    records = {run_names[path]: load_task_records(path) for path in run_dirs}
    shared = [
        {name for name, tasks in by_dataset.items() if {ALL_PROMPTS, ONE_PROMPT, BARE_NAME} <= tasks.keys()}
        for by_dataset in records.values()
    ]
    names = select_datasets(set.intersection(*shared), datasets, NEEDED)
    gains = {run_names[path]: _compute_gains(path, names) for path in run_dirs}
    averages = {run: average_scores([gain.total[name] for name in names]) for run, gain in gains.items()}
    rows = tuple((name, *(_format_points(gain.total[name]) for gain in gains.values())) for name in names)
    mean_row = ("average", *map(_format_points, averages.values()))
    table = ReportTable(("dataset", *gains), (*rows, mean_row) if len(names) > 1 else rows)
    measured: dict[str, Mapping[str, Score]] = {}
    for run, gain in gains.items():
        measured[f"gain, {run}"] = {**gain.total, "average": averages[run]}
        for label, scores in (("one prompt", gain.engineering), ("ensemble", gain.ensembling)):
            measured[f"gain of {label}, {run}"] = {**scores, "average": average_scores(list(scores.values()))}
    table_section = Section(
        "Gain by dataset",
        "Zero-shot accuracy with all prompts minus accuracy with the bare class name, in points, on the same images.",
        table,
    )
    sections = [_summarize_run(run, gains[run], names) for run in gains]
    if compute:
        sections.insert(0, _plot_compute(records, names, compute, unit))
    return StudyResult("Gain of prompt engineering and ensembling", measured, (), (*sections, table_section))


def _compute_gains(run_dir: Path, datasets: Sequence[str]) -> PromptGains:
    total, engineering, ensembling = {}, {}, {}
    for name in datasets:
        scores = [
            get_sample_scores(load_predictions(run_dir, name, task), PRIMARY_METRIC)
            for task in (ALL_PROMPTS, ONE_PROMPT, BARE_NAME)
        ]
        if None in scores:
            raise DataError(f"the predictions of {run_dir} on {name} have no column 'correct'. Evaluate it again.")
        everything, one, bare = (score for score in scores if score is not None)
        total[name] = compare_paired(everything, bare).difference
        engineering[name] = compare_paired(one, bare).difference
        ensembling[name] = compare_paired(everything, one).difference
    return PromptGains(total, engineering, ensembling)


def _summarize_run(run: str, gains: PromptGains, datasets: Sequence[str]) -> Section:
    total, engineering, ensembling = (
        average_scores(list(scores.values())) for scores in (gains.total, gains.engineering, gains.ensembling)
    )
    number = sum(score.low > 0 for score in gains.total.values())
    summary = (
        f"On average over {len(datasets)} datasets the prompts are worth {_format_points(total)} points: the first "
        f"prompt {_format_points(engineering)}, the ensemble of all prompts another {_format_points(ensembling)}. The "
        f"gain is significant on {number} of {len(datasets)} datasets."
    )
    ordered = dict(sorted(gains.total.items(), key=lambda item: -item[1].value))
    figure = study_figures.plot_differences(ordered, "all prompts minus the bare class name, in points")
    return Section(f"Prompts: {run}", summary, figure)


def _plot_compute(
    records: Mapping[str, Mapping[str, Mapping[str, ResultRecord]]],
    datasets: Sequence[str],
    compute: Sequence[float],
    unit: str,
) -> Section:
    series: dict[str, dict[str, tuple[float, Score]]] = {}
    for label, task in (("prompts and ensembling", ALL_PROMPTS), ("bare class names", BARE_NAME)):
        series[label] = {
            run: (cost, average_scores([by_dataset[name][task].score for name in datasets]))
            for (run, by_dataset), cost in zip(records.items(), compute, strict=True)
        }
    summary = f"Zero-shot accuracy, averaged over {len(datasets)} datasets, against {unit}."
    return Section("Accuracy against compute", summary, transfer_figures.plot_against_compute(series, unit, "Accuracy"))


def _format_points(score: Score) -> str:
    return f"{100 * score.value:+.1f} [{100 * score.low:+.1f}, {100 * score.high:+.1f}]"
