"""`zebra study`: the paper's analyses of finished evaluations.

Groups (CLIP §7), humans (§4), robustness (§3.3), scaling (Fig. 9) and supervised probes (Fig. 5).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from zebra.config.study import (
    GroupStudyConfig,
    HumanStudyConfig,
    RobustnessStudyConfig,
    ScalingStudyConfig,
    StudyConfig,
    SupervisedStudyConfig,
)
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.table_files import TABLE_FORMATS, BadRow, open_table
from zebra.errors import DataError, suggest_name
from zebra.evaluators.features import read_features
from zebra.evaluators.human import HumanModelComparison, compare_humans_with_model
from zebra.evaluators.results_io import predictions_path, read_latest_results, read_predictions
from zebra.protocols.few_shot import subtract_probe_scores
from zebra.protocols.groups import score_by_group
from zebra.protocols.human import read_answers
from zebra.protocols.line_fit import MIN_POINTS
from zebra.protocols.linear_probe import fit_linear_probe
from zebra.protocols.metrics import average_scores
from zebra.protocols.robustness import AVERAGE_SHIFT, ShiftRobustness, evaluate_robustness
from zebra.protocols.scaling import MIN_RUNS_WITH_LIMIT, PowerLaw, PowerLawWithLimit, fit_law_with_limit, fit_power_law
from zebra.report import study_figures as figures
from zebra.report.page import ReportTable, Section
from zebra.report.style import format_score
from zebra.values import Score

ZERO_SHOT_TASK = "zero-shot"
PRIMARY_METRIC = "top1"
MAX_P_VALUE = 0.05
"""Level of the F test for an irreducible error."""


@dataclass(frozen=True, slots=True)
class StudyResult:
    """Scores, notes and report sections of one study."""

    title: str
    scores: Mapping[str, Mapping[str, Score]]
    """Quantity → name → score."""
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    """Sections for `write_page`."""


def run(config: StudyConfig) -> StudyResult:
    """Run the study that the type of `config` selects.

    Raises:
        DataError: A run lacks results or predictions that the study needs, or an input file is damaged.
    """
    match config:
        case GroupStudyConfig():
            return study_groups(Path(config.run), config.dataset, Path(config.table), config.column)
        case HumanStudyConfig():
            return study_humans(Path(config.run), Path(config.dataset), Path(config.answers))
        case RobustnessStudyConfig():
            return study_robustness(
                [Path(path) for path in config.runs],
                config.reference_dataset,
                [Path(path) for path in config.models],
                config.shifted_datasets,
                None if config.baseline is None else Path(config.baseline),
            )
        case ScalingStudyConfig():
            run_dirs = [Path(path) for path in config.runs]
            return study_scaling(run_dirs, config.compute, config.unit, config.datasets)
        case SupervisedStudyConfig():
            return study_supervised(Path(config.run), Path(config.features))


def study_groups(run_dir: Path, dataset: str, table: Path, column: str) -> StudyResult:
    """Split a run's zero-shot accuracy on a dataset by a column of a table (CLIP §7).

    Args:
        run_dir: A directory that `zebra evaluate` wrote.
        dataset: Name of the dataset.
        table: CSV, TSV, JSONL or Parquet with image ids in the column `id`, or the table that was evaluated.
        column: The column that names the group of each image.

    Raises:
        DataError: The run has no predictions on the dataset, or the table lacks the column or an image.
    """
    predictions = load_predictions(run_dir, dataset)
    group_by_id = _read_column(table, column)
    ids = predictions["id"].to_pylist()
    if missing := [id for id in ids if id not in group_by_id]:
        raise DataError(
            f"{table} has no row for {len(missing)} images of {dataset}, such as {missing[0]!r}. Put image ids in the "
            "column 'id', or pass the table that was evaluated."
        )
    result = score_by_group(np.asarray(predictions["correct"]), [group_by_id[id] for id in ids])
    rows = tuple(
        (
            group,
            format_score(score),
            f"{score.n:,}",
            "too few images to compare" if group in result.small_groups else "",
        )
        for group, score in result.scores.items()
    )
    summary = {key: score for key, score in (("worst", result.worst), ("gap", result.gap)) if score}
    if summary:
        summary_text = (
            f"Worst group: {format_score(summary['worst'])}. Gap between the best and the worst group: "
            f"{format_score(summary['gap'])}. Both intervals account for selecting the extremes among all groups."
        )
    else:
        summary_text = "Fewer than two groups have enough images to compare."
    groups_section = Section(
        f"{dataset} by {column}",
        f"Zero-shot accuracy (top-1) of each group, lowest first. {summary_text}",
        ReportTable((column, "top-1", "images", ""), rows),
    )
    caveats_section = Section(
        "Limits of this study",
        "What these numbers cannot show.",
        ReportTable(("caveat",), tuple((caveat,) for caveat in result.caveats)),
    )
    scores = {"groups": result.scores, "summary": summary}
    return StudyResult(f"Groups of {dataset}", scores, result.caveats, (groups_section, caveats_section))


def study_humans(run_dir: Path, dataset: Path, answers_path: Path) -> StudyResult:
    """Compare human answers with a run's predictions on the same images (CLIP Table 2, Fig. 16).

    Args:
        run_dir: A directory that `zebra evaluate` wrote for this dataset.
        dataset: The CLIP_benchmark folder of the quiz.
        answers_path: The CSV file of `zebra human`, or of the quiz page.

    Raises:
        DataError: A file is damaged, there are no answers, or the run lacks an image of the quiz.
    """
    benchmark = read_classification(dataset)
    predictions = load_predictions(run_dir, benchmark.name)
    ids = predictions["id"].to_pylist()
    labels = dict(zip(ids, predictions["label"].to_pylist(), strict=True))
    is_correct = dict(zip(ids, predictions["correct"].to_pylist(), strict=True))
    answers = read_answers(answers_path, benchmark.classnames, labels)
    if not answers:
        raise DataError(
            f"{answers_path} contains no answers. Record some with zebra human or with the quiz page of zebra serve."
        )
    scores_by_shots: dict[int, dict[str, Score | None]] = {}
    sections, notes = [], []
    for comparison in compare_humans_with_model(answers, labels, is_correct, benchmark.classnames):
        human = comparison.human
        scores_by_shots[comparison.shots] = {
            "accuracy": human.accuracy,
            "majority vote": human.majority_accuracy,
            "on guesses": human.accuracy_on_guesses,
            "majority on guesses": human.majority_accuracy_on_guesses,
            "the model": comparison.model_accuracy,
        }
        notes.append(
            f"{comparison.shots} shots: {human.num_answers} answers by {human.num_people} "
            f"{'person' if human.num_people == 1 else 'people'}; {human.num_ties} ties left out of the majority vote, "
            f"{human.num_ties_on_guesses} left out of the majority on guesses"
        )
        sections.append(_difficulty_section(comparison, notes[-1]))
    table = ReportTable(
        ("", *(_count_examples(shots) for shots in scores_by_shots)),
        tuple(
            (name, *(format_score(scores[name]) for scores in scores_by_shots.values()))
            for name in next(iter(scores_by_shots.values()))
        ),
    )
    summary = (
        "Accuracy averaged over classes, on the images of the quiz. Columns: examples of each class that people saw "
        "first. “I don't know” counts as wrong, except in the rows on guesses, which leave it out."
    )
    accuracy_section = Section(f"Humans and the model on {benchmark.name}", summary, table)
    measured = {
        f"{shots} shots": {name: score for name, score in scores.items() if score}
        for shots, scores in scores_by_shots.items()
    }
    title = f"Humans and the model: {benchmark.name}"
    return StudyResult(title, measured, tuple(notes), (accuracy_section, *sections))


def _count_examples(shots: int) -> str:
    return "1 example" if shots == 1 else f"{shots} examples"


def _difficulty_section(comparison: HumanModelComparison, note: str) -> Section:
    """Plot the accuracy of humans and of the model by class (CLIP Fig. 16)."""
    difficulty = comparison.difficulty
    r = difficulty.correlation
    correlation = (
        f" The correlation over classes (Pearson's r) is {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]." if r else ""
    )
    return Section(
        f"Difficulty after {_count_examples(comparison.shots)}",
        f"Accuracy of humans and of the model on each class.{correlation} {note}.",
        figures.plot_class_difficulty(difficulty.classnames, difficulty.human_scores, difficulty.model_scores),
    )


def study_robustness(
    reference_dirs: Sequence[Path],
    standard: str,
    model_dirs: Sequence[Path],
    shifts: Sequence[str] = (),
    baseline: Path | None = None,
) -> StudyResult:
    """Evaluate models against the line of reference models under every shift (CLIP Fig. 13).

    Args:
        reference_dirs: Runs of the reference models, trained on the standard dataset.
        standard: Name of the standard dataset.
        model_dirs: Runs of the models to evaluate.
        shifts: Names of the shifted datasets; by default all that every run has besides the standard one.
        baseline: The run that relative robustness is measured from; by default the first reference run.

    Raises:
        DataError: Too few reference models, an unknown baseline, or a dataset that a run lacks.
    """
    names = shorten_run_names([*reference_dirs, *model_dirs])
    if baseline is not None and baseline not in names:
        raise DataError(f"the baseline {baseline} is not one of the runs. Name one of them.")
    baseline_name = names[baseline or reference_dirs[0]]
    scores_by_model = {names[path]: load_top1_scores(path) for path in (*reference_dirs, *model_dirs)}
    shared = set.intersection(*(set(scores) for scores in scores_by_model.values()))
    shift_names = list(shifts) or sorted(shared - {standard})
    for model, scores in scores_by_model.items():
        for name in (standard, *shift_names):
            if name not in scores:
                raise DataError(f"{model} has no zero-shot top-1 score on {name!r}.{suggest_name(name, scores)}")
    accuracies = {
        model: {name: scores[name] for name in (standard, *shift_names)} for model, scores in scores_by_model.items()
    }
    references = [names[path] for path in reference_dirs]
    results = evaluate_robustness(accuracies, standard, references, baseline_name)
    measured: dict[str, Mapping[str, Score]] = {}
    for shift in results:
        measured[f"effective, {shift.name}"] = shift.effective_robustness
        measured[f"relative, {shift.name}"] = shift.relative_robustness
    return StudyResult(
        f"Robustness to {len(shift_names)} shifts of {standard}",
        measured,
        (),
        tuple(_shift_section(shift, standard, references, baseline_name) for shift in results),
    )


def _shift_section(shift: ShiftRobustness, standard: str, references: Sequence[str], baseline: str) -> Section:
    """Plot accuracy under a shift against standard accuracy, with the line of the reference models."""
    name = "the average of all shifts" if shift.name == AVERAGE_SHIFT else shift.name
    differences = " ".join(
        f"{model}: effective robustness {100 * score.value:+.1f} points [{100 * score.low:+.1f}, "
        f"{100 * score.high:+.1f}], relative robustness {100 * shift.relative_robustness[model].value:+.1f} points."
        for model, score in shift.effective_robustness.items()
    )
    summary = (
        f"Each point is a model. The line is fitted to the reference models; it predicts accuracy on {name} from "
        f"accuracy on {standard}. Effective robustness is the distance above the line, relative robustness the "
        f"difference from the baseline {baseline}. {differences}"
    )
    pairs = {model: (score, shift.shifted_scores[model]) for model, score in shift.standard_scores.items()}
    figure = figures.plot_robustness(
        {model: pairs[model] for model in references},
        {model: pairs[model] for model in shift.effective_robustness},
        shift.line.predict,
        shift.line.confidence_band,
        standard,
        name,
    )
    return Section(f"Robustness: {name}", summary.rstrip(), figure)


def study_scaling(
    run_dirs: Sequence[Path], compute: Sequence[float], unit: str, datasets: Sequence[str] = ()
) -> StudyResult:
    """Fit a power law of error against compute to a family of runs (CLIP Fig. 9).

    Args:
        run_dirs: Directories that `zebra evaluate` wrote.
        compute: The compute of each run, in `unit`.
        unit: For example "GFLOP per image" or "images seen".
        datasets: The datasets whose errors are averaged; by default all that every run has.

    Raises:
        DataError: Fewer than three runs, not one compute value per run, or a dataset that a run lacks.
    """
    names = shorten_run_names(run_dirs)
    scores_by_run = {names[path]: load_top1_scores(path) for path in run_dirs}
    shared = set.intersection(*(set(scores) for scores in scores_by_run.values()))
    dataset_names = list(datasets) or sorted(shared)
    for run_name, scores in scores_by_run.items():
        if missing := [name for name in dataset_names if name not in scores]:
            raise DataError(
                f"{run_name} has no zero-shot top-1 score on {missing[0]!r}.{suggest_name(missing[0], scores)}"
            )
    if not dataset_names:
        raise DataError("the runs have no dataset in common. Evaluate all of them on the same datasets.")
    means = {
        run_name: average_scores([scores[name] for name in dataset_names]) for run_name, scores in scores_by_run.items()
    }
    errors = {run_name: Score(1 - mean.value, 1 - mean.high, 1 - mean.low, mean.n) for run_name, mean in means.items()}
    law = _fit_scaling_law(compute, [error.value for error in errors.values()])
    points = {run_name: (cost, error.value) for (run_name, error), cost in zip(errors.items(), compute, strict=True)}
    figure = figures.plot_scaling(
        points,
        lambda x: law.confidence_band(x).value_N,
        lambda x: (law.confidence_band(x).low_N, law.confidence_band(x).high_N),
        lambda x: (law.prediction_band(x).low_N, law.prediction_band(x).high_N),
        unit,
    )
    multiplied, description, parameters = "error", "", {"exponent": law.exponent}
    if isinstance(law, PowerLawWithLimit):
        limit = parameters["irreducible error"] = law.irreducible_error
        multiplied = "error above the irreducible error"
        description = (
            f" The errors approach an irreducible error of {limit.value:.1%} [{limit.low:.1%}, {limit.high:.1%}]: with "
            f"it the law fits better (F test, p = {law.p_value:.2g})."
        )
    summary = (
        f"Mean zero-shot error over {', '.join(dataset_names)}, for {len(run_dirs)} runs. Twice the compute "
        f"({unit}) multiplies the {multiplied} by {2**law.exponent.value:.2f}. The exponent of the power law is "
        f"{law.exponent.value:.2f} [{law.exponent.low:.2f}, {law.exponent.high:.2f}].{description}"
    )
    measured = {"error": errors, "law": parameters}
    section = Section("Power law", summary, figure)
    return StudyResult("Error against compute", measured, (summary,), (section,))


def _fit_scaling_law(compute: Sequence[float], error: Sequence[float]) -> PowerLaw | PowerLawWithLimit:
    """Fit the paper's power law, or one with an irreducible error if the runs suffice to show that it fits better."""
    law = fit_power_law(compute, error)
    if len(compute) < MIN_RUNS_WITH_LIMIT or len(set(compute)) < MIN_POINTS:
        return law
    law_with_limit = fit_law_with_limit(compute, error)
    return law_with_limit if law_with_limit.p_value < MAX_P_VALUE else law


def study_supervised(run_dir: Path, features_path: Path) -> StudyResult:
    """Compare a run's zero-shot accuracy with supervised probes on any other features (CLIP Fig. 5).

    Args:
        run_dir: A directory that `zebra evaluate` wrote.
        features_path: A Parquet file that `zebra.evaluators.features` reads; its datasets are compared.

    Raises:
        DataError: The run has no predictions on a dataset of the file, or predictions on other images.
    """
    zero_shot_scores, probe_scores, notes = {}, {}, []
    for name, (train, test) in read_features(features_path).items():
        predictions = load_predictions(run_dir, name)
        if set(predictions["id"].to_pylist()) != set(test.ids):
            raise DataError(
                f"the test features of {name} in {features_path} ({len(test.ids)} images) and the predictions of "
                f"{run_dir} ({len(predictions)} images) are not of the same images. Use the ids of the predictions."
            )
        assert train.labels is not None and test.labels is not None
        num_classes = int(max(train.labels.max(), test.labels.max())) + 1
        probe = fit_linear_probe(train, test, num_classes)
        probe_scores[name] = probe.result.scores()[PRIMARY_METRIC]
        zero_shot_scores[name] = load_top1_scores(run_dir)[name]
        notes.append(f"{name}: {len(train.ids):,} training features, λ = {probe.probe.l2_penalty:.3g}")
    differences = subtract_probe_scores(zero_shot_scores, probe_scores)
    num_better = sum(difference.value > 0 for difference in differences.values())
    summary = (
        "Zero-shot accuracy minus the accuracy of a linear probe, which was trained on labeled features from "
        f"{features_path.name}. Zero-shot classification is better on {num_better} of {len(differences)} datasets."
    )
    scores = {"zero-shot": zero_shot_scores, "probe": probe_scores, "difference": differences}
    section = Section("Zero-shot against full supervision", summary, figures.plot_probe_differences(differences))
    return StudyResult("Zero-shot against a supervised probe", scores, tuple(notes), (section,))


def load_predictions(run_dir: Path, dataset: str) -> pa.Table:
    """Read a run's zero-shot predictions on a dataset.

    Raises:
        DataError: The run has none.
    """
    predictions_dir = run_dir / "predictions"
    predictions = read_predictions(predictions_dir, dataset, ZERO_SHOT_TASK)
    if predictions is None:
        raise DataError(
            f"no predictions at {predictions_path(predictions_dir, dataset, ZERO_SHOT_TASK)}. "
            f"Run: zebra evaluate MODEL {dataset} --out {run_dir}"
        )
    return predictions


def load_top1_scores(run_dir: Path) -> dict[str, Score]:
    """Read a run's zero-shot top-1 score on each dataset."""
    records = read_latest_results(run_dir).items()
    return {
        dataset: record.score
        for (dataset, task, metric), record in records
        if (task, metric) == (ZERO_SHOT_TASK, PRIMARY_METRIC)
    }


def shorten_run_names(run_dirs: Sequence[Path]) -> dict[Path, str]:
    """Name each run by its directory, or by its full path if two directories have the same name.

    Raises:
        DataError: A run is given twice.
    """
    if duplicates := [path for path, count in Counter(run_dirs).items() if count > 1]:
        raise DataError(f"the run {duplicates[0]} is given twice. Give each run once.")
    counts = Counter(path.resolve().name for path in run_dirs)
    return {path: path.resolve().name if counts[path.resolve().name] == 1 else str(path) for path in run_dirs}


def _read_column(path: Path, column: str) -> dict[str, object]:
    """Read one column of a table, keyed by row id, or by FILE:LINE without a column `id`."""
    if path.suffix.lower() not in TABLE_FORMATS or not path.is_file():
        raise DataError(f"cannot read the table {path}. Name an existing {', '.join(TABLE_FORMATS)} file.")
    table = open_table(path)
    if column not in table.columns:
        raise DataError(f"{path} has no column {column!r}.{suggest_name(column, table.columns)}")
    has_ids = "id" in table.columns
    value_by_id: dict[str, object] = {}
    for line, row in table.read(["id", column] if has_ids else [column]):
        if isinstance(row, BadRow):
            raise DataError(f"{path}:{line}: {row.reason} ({row.detail})")
        value_by_id[str(row["id"]) if has_ids else f"{path.name}:{line}"] = row.get(column)
    return value_by_id
