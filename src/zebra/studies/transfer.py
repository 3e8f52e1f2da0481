"""Transfer of linear probes of several models (CLIP Table 10, Figs. 10 to 12)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from zebra.data.benchmarks.catalog import load_catalog
from zebra.errors import ConfigError, DataError
from zebra.protocols.metrics import average_scores, subtract_scores
from zebra.protocols.transfer import BEST_CONFIDENCE, find_best_models
from zebra.report import study_figures, transfer_figures
from zebra.report.page import ReportTable, Section
from zebra.report.style import format_percent, format_score
from zebra.studies.result import StudyResult
from zebra.studies.runs import load_primary_scores, select_datasets, shorten_run_names
from zebra.values import Score

NEEDED = "linear-probe scores in every run. Run: zebra evaluate MODEL DATASET --tasks linear-probe --out RUN."
IMAGENET = "imagenet"
KORNBLITH_12 = (
    *("food101", "cifar10", "cifar100", "birdsnap", "sun397", "cars"),
    *("aircraft", "voc2007", "dtd", "pets", "caltech101", "flowers"),
)
"""The datasets of Kornblith et al. 2019, the left half of Fig. 10."""


def study_transfer(
    run_dirs: Sequence[Path],
    datasets: Sequence[str] = (),
    compute: Sequence[float] = (),
    unit: str = "",
    baseline: Path | None = None,
) -> StudyResult:
    """Compare linear-probe scores of several models over datasets.

    Args:
        run_dirs: Directories that `zebra evaluate --tasks linear-probe` wrote, one for each model.
        datasets: Names of datasets; by default all that every run has.
        compute: The compute of each run in `unit`; or none.
        baseline: The run that the others are compared with on each dataset; by default the best on average.

    Raises:
        DataError: A run lacks a dataset, or the baseline is not among the runs.
        ConfigError: There is not one compute value for each run.
    """
    if compute and len(compute) != len(run_dirs):
        raise ConfigError(f"{len(compute)} compute values but {len(run_dirs)} runs. Give one for each run.")
    run_names = shorten_run_names(run_dirs)
    if baseline is not None and baseline not in run_names:
        raise DataError(f"the baseline {baseline} is not one of the runs. Name one of them.")
    all_scores = {run_names[path]: load_primary_scores(path, "linear-probe") for path in run_dirs}
    names = select_datasets(set.intersection(*(set(scores) for scores in all_scores.values())), datasets, NEEDED)
    scores = {run: {name: by_dataset[name] for name in names} for run, by_dataset in all_scores.items()}
    averages = _average(scores, names)
    best = {name: find_best_models({run: by_dataset[name] for run, by_dataset in scores.items()}) for name in names}
    first_label = next(iter(averages))
    reference = run_names[baseline] if baseline else max(scores, key=lambda run: averages[first_label][run].value)
    sections = [_average_section(label, by_run, compute, unit) for label, by_run in averages.items()]
    sections.append(_table_section(scores, names, best))
    measured: dict[str, Mapping[str, Score]] = {f"average, {label}": by_run for label, by_run in averages.items()}
    for run in scores:
        if run != reference:
            differences = {name: subtract_scores(scores[run][name], scores[reference][name]) for name in names}
            measured[f"{run} minus {reference}"] = differences
            sections.append(_difference_section(run, reference, differences))
    others = [name for name in names if name != IMAGENET]
    if IMAGENET in names and others and len(scores) > 1:
        sections.append(_task_shift_section(scores, others))
    notes = [f"best on {name}: {', '.join(models)}" for name, models in best.items()]
    return StudyResult("Transfer of linear probes", measured, tuple(notes), tuple(sections))


def _average(scores: Mapping[str, Mapping[str, Score]], names: Sequence[str]) -> dict[str, dict[str, Score]]:
    """Return label → run → average, over all datasets and over those of the paper's sets that are present in part."""
    paper = [entry.name for entry in load_catalog().values() if entry.group == "paper"]
    sets = {}
    for title, members in (("the paper's 27 datasets", paper), ("the 12 datasets of Kornblith et al.", KORNBLITH_12)):
        if present := [name for name in members if name in names]:
            complete = len(present) == len(members)
            sets[title if complete else f"{len(present)} of {title}, not comparable with it"] = present
    if not any(set(present) == set(names) for present in sets.values()):
        sets = {"all datasets": list(names), **sets}
    return {
        label: {run: average_scores([by_dataset[name] for name in present]) for run, by_dataset in scores.items()}
        for label, present in sets.items()
    }


def _average_section(label: str, by_run: Mapping[str, Score], compute: Sequence[float], unit: str) -> Section:
    texts = ", ".join(f"{run} {format_score(score)}" for run, score in by_run.items())
    summary = f"Linear-probe score, averaged over {label}: {texts}. Datasets are fixed, their images random."
    if not compute:
        rows = sorted(by_run.items(), key=lambda item: -item[1].value)
        return Section(
            f"Average over {label}",
            summary,
            ReportTable(("run", "average"), tuple((r, format_score(s)) for r, s in rows)),
        )
    points = {run: (cost, score) for (run, score), cost in zip(by_run.items(), compute, strict=True)}
    figure = transfer_figures.plot_against_compute({"linear probe": points}, unit, "Average score")
    return Section(f"Average over {label}", summary, figure)


def _table_section(
    scores: Mapping[str, Mapping[str, Score]], names: Sequence[str], best: Mapping[str, Sequence[str]]
) -> Section:
    rows = tuple(
        (name, *(f"{format_percent(scores[run][name].value)}{' *' * (run in best[name])}" for run in scores))
        for name in names
    )
    summary = (
        f"Linear-probe score by dataset, in its usual metric. A star marks the scores that are inside the "
        f"{format_percent(BEST_CONFIDENCE)} Clopper-Pearson interval of the highest one."
    )
    return Section("Scores by dataset", summary, ReportTable(("dataset", *scores), rows))


def _difference_section(run: str, reference: str, differences: Mapping[str, Score]) -> Section:
    ordered = dict(sorted(differences.items(), key=lambda item: -item[1].value))
    better, worse = (sum(sign * score.value > 0 for score in ordered.values()) for sign in (1, -1))
    summary = (
        f"Linear probes on the features of {run} are better than on those of {reference} on {better} of "
        f"{len(ordered)} datasets and worse on {worse}. The intervals assume independent scores; on the same test "
        "images they are too wide."
    )
    figure = study_figures.plot_differences(ordered, f"{run} minus {reference}, in points")
    return Section(f"{run} against {reference}", summary, figure)


def _task_shift_section(scores: Mapping[str, Mapping[str, Score]], others: Sequence[str]) -> Section:
    points = {
        run: (by_dataset[IMAGENET], average_scores([by_dataset[name] for name in others]))
        for run, by_dataset in scores.items()
    }
    summary = (
        f"Each point is a model. Transfer score is the average over {len(others)} datasets other than ImageNet: of two "
        "models with the same accuracy on ImageNet, the higher one transfers better to other tasks."
    )
    figure = transfer_figures.plot_scatter(points, "linear probe on ImageNet", "Transfer score")
    return Section("Robustness to task shift", summary, figure)
