"""`zebra study`: folders of evaluations in; what the paper makes of several of them, as lines and as a page, out.

Groups (§7), people against the model (§4), robustness (§3.3), scaling (Fig. 9), zero-shot against supervised (Fig. 5).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.table_files import TABLE_FORMATS, BadRow, open_table
from zebra.errors import DataError, suggest_name
from zebra.evaluators.features import read_features
from zebra.evaluators.human import compare_humans_with_model
from zebra.evaluators.results_io import predictions_path, read_latest_results, read_predictions
from zebra.protocols import robustness as protocol
from zebra.protocols.few_shot import subtract_probe_scores
from zebra.protocols.groups import score_by_group
from zebra.protocols.human import read_answers
from zebra.protocols.linear_probe import fit_linear_probe
from zebra.protocols.metrics import average_scores
from zebra.protocols.scaling import fit_power_law
from zebra.report import study_figures as figures
from zebra.report.page import ReportTable, Section
from zebra.report.style import format_percent
from zebra.values import Score

ZERO_SHOT_TASK = "zero-shot"
PRIMARY_METRIC = "top1"


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What came out."""

    title: str
    scores: Mapping[str, Mapping[str, Score]]
    """What was measured → name → score."""
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    """For `write_page`."""


def study_groups(run_dir: Path, dataset: str, table: Path, column: str) -> StudyResult:
    """Divide a run's zero-shot accuracy on a set by a column of a table.

    Args:
        run_dir: A folder that `zebra evaluate` wrote.
        dataset: Of the set.
        table: CSV, TSV, JSONL or Parquet, with the pictures' ids in a column `id`, or the table that was evaluated.
        column: What divides the pictures.

    Raises:
        DataError: The run has no predictions for the set, the table lacks the column or a picture.
    """
    answers = load_predictions(run_dir, dataset)
    told = _read_column(table, column)
    ids = answers["id"].to_pylist()
    if missing := [id for id in ids if id not in told]:
        raise DataError(
            f"{table} says nothing of {missing[0]!r}, one of {len(missing)} pictures of {dataset} without a row; ids "
            "stand in its column 'id', or are FILE:LINE where the table itself was evaluated"
        )
    found = score_by_group(np.asarray(answers["correct"]), [told[id] for id in ids])
    rows = tuple(
        (
            group,
            format_score(score),
            f"{score.n:,}",
            "too few to compare" if group in found.small_groups else "",
        )
        for group, score in found.scores.items()
    )
    summary = {key: score for key, score in (("worst", found.worst), ("gap", found.gap)) if score}
    said = (
        ", ".join(f"{key} {format_score(score)}" for key, score in summary.items())
        or "too few pictures to compare"
    )
    section = Section(
        f"{dataset} by {column}",
        f"Accuracy of each group, the worst first: {said}. Intervals of the worst group and the gap allow for their "
        "having been chosen.",
        ReportTable((column, "top-1", "pictures", ""), rows),
    )
    caution = Section(
        "Before you conclude",
        "What these numbers cannot say.",
        ReportTable(("caution",), tuple((c,) for c in found.caveats)),
    )
    scores = {"groups": found.scores, "summary": summary}
    return StudyResult(f"Groups of {dataset}", scores, found.caveats, (section, caution))


def study_humans(run_dir: Path, dataset: Path, answers_path: Path) -> StudyResult:
    """Set people's answers beside a run's predictions on the same pictures (Table 2, Fig. 16).

    Args:
        run_dir: A folder that `zebra evaluate` wrote for this set.
        dataset: The CLIP_benchmark folder that people were asked about.
        answers_path: The CSV file of `zebra human`, or of the quiz page.

    Raises:
        DataError: A file is not whole, or the run has not seen a picture that people were asked about.
    """
    benchmark = read_classification(dataset)
    seen = load_predictions(run_dir, benchmark.name)
    ids = seen["id"].to_pylist()
    labels = dict(zip(ids, seen["label"].to_pylist(), strict=True))
    right = dict(zip(ids, seen["correct"].to_pylist(), strict=True))
    said = read_answers(answers_path, benchmark.classnames, labels)
    if not said:
        raise DataError(
            f"{answers_path} holds no answers; record some with zebra human, or with the quiz of zebra serve"
        )
    columns: dict[int, dict[str, Score | None]] = {}
    sections, notes = [], []
    for standing in compare_humans_with_model(said, labels, right, benchmark.classnames):
        shots, row, hard = standing.shots, standing.human, standing.difficulty
        columns[shots] = {
            "accuracy": row.accuracy,
            "majority vote": row.majority_accuracy,
            "on guesses": row.accuracy_on_guesses,
            "majority on guesses": row.majority_accuracy_on_guesses,
            "the model": standing.model_accuracy,
        }
        notes.append(
            f"{shots} shots: {row.num_people} people, {row.num_answers} answers; {row.num_ties} ties left out of the majority, "
            f"{row.num_ties_on_guesses} of that on guesses"
        )
        r = hard.correlation
        agreement = f" Pearson's r over classes is {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]." if r else ""
        reading = f"What is hard for people, and whether it is for the model.{agreement} {notes[-1]}."
        figure = figures.plot_class_difficulty(hard.classnames, hard.human_scores, hard.model_scores)
        sections.append(Section(f"Difficulty after {shots} examples", reading, figure))
    table = ReportTable(
        ("", *(f"{shots} examples" for shots in columns)),
        tuple(
            (name, *(format_score(scores[name]) for scores in columns.values()))
            for name in next(iter(columns.values()))
        ),
    )
    reading = (
        "Mean accuracy per class on the pictures that people were asked about; to not know is a wrong answer, but in "
        "the rows on guesses."
    )
    first = Section(f"People and the model on {benchmark.name}", reading, table)
    measured = {
        f"{shots} shots": {name: score for name, score in scores.items() if score}
        for shots, scores in columns.items()
    }
    title = f"People against the model: {benchmark.name}"
    return StudyResult(title, measured, tuple(notes), (first, *sections))


def study_robustness(
    reference_dirs: Sequence[Path],
    standard: str,
    model_dirs: Sequence[Path],
    shifts: Sequence[str] = (),
    baseline: Path | None = None,
) -> StudyResult:
    """Measure some runs against the line of all others, under every shift (Fig. 13).

    Args:
        reference_dirs: The reference runs, of models trained on the standard set.
        standard: Name of the standard set.
        model_dirs: The runs to be judged.
        shifts: Names of shifted sets; by default all that every run has beside the standard one.
        baseline: The run that relative robustness is counted from; the first reference without it.

    Raises:
        DataError: Too few references, or a set that one run lacks.
    """
    names = shorten_run_names([*reference_dirs, *model_dirs])
    if baseline is not None and baseline not in names:
        raise DataError(f"the baseline {baseline} is none of the runs; name one of them")
    start = names[baseline or reference_dirs[0]]
    tops = {names[run]: load_top1_scores(run) for run in (*reference_dirs, *model_dirs)}
    shared = set.intersection(*(set(scores) for scores in tops.values()))
    chosen = list(shifts) or sorted(shared - {standard})
    for model, scores in tops.items():
        for name in (standard, *chosen):
            if name not in scores:
                raise DataError(f"{model} has no zero-shot top-1 on {name!r}.{suggest_name(name, scores)}")
    accuracies = {
        model: {name: scores[name] for name in (standard, *chosen)} for model, scores in tops.items()
    }
    references = [names[run] for run in reference_dirs]
    found = protocol.evaluate_robustness(accuracies, standard, references, start)
    measured: dict[str, Mapping[str, Score]] = {}
    sections = []
    for shift in found:
        measured[f"effective, {shift.name}"] = shift.effective_robustness
        measured[f"relative, {shift.name}"] = shift.relative_robustness
        reading = "; ".join(
            f"{model} lies {100 * lead.value:+.1f} points [{100 * lead.low:+.1f}, {100 * lead.high:+.1f}] from the "
            f"line, and {100 * shift.relative_robustness[model].value:+.1f} from {start}"
            for model, lead in shift.effective_robustness.items()
        )
        pairs = {model: (shift.standard_scores[model], shift.shifted_scores[model]) for model in tops}
        name = "all shifts" if shift.name == protocol.AVERAGE_SHIFT else shift.name
        figure = figures.plot_robustness(
            {model: pairs[model] for model in references},
            {model: pairs[model] for model in shift.effective_robustness},
            shift.line.predict,
            shift.line.confidence_band,
            standard,
            name,
        )
        sections.append(Section(f"Under {name}", f"{reading or 'The references alone'}.", figure))
    return StudyResult(f"Robustness to {len(chosen)} shifts of {standard}", measured, (), tuple(sections))


def study_scaling(
    run_dirs: Sequence[Path], compute: Sequence[float], unit: str, datasets: Sequence[str] = ()
) -> StudyResult:
    """Fit error to compute over a family of runs (Fig. 9).

    Args:
        run_dirs: Folders of `zebra evaluate`.
        compute: Of each run, in `unit`.
        unit: For instance "GFLOP per image", or "pictures seen".
        datasets: Whose errors are averaged; by default all that every run has.

    Raises:
        DataError: Fewer than three runs, or compute for other than each, or a set that a run lacks.
    """
    names = shorten_run_names(run_dirs)
    tops = {names[run]: load_top1_scores(run) for run in run_dirs}
    chosen = list(datasets) or sorted(set.intersection(*(set(scores) for scores in tops.values())))
    for run, scores in tops.items():
        if lacking := [name for name in chosen if name not in scores]:
            raise DataError(
                f"{run} has no zero-shot top-1 on {lacking[0]!r}.{suggest_name(lacking[0], scores)}"
            )
    if not chosen:
        raise DataError("the runs have no set in common; evaluate all of them on the same sets")
    means = {run: average_scores([scores[name] for name in chosen]) for run, scores in tops.items()}
    errors = {run: Score(1 - s.value, 1 - s.high, 1 - s.low, s.n) for run, s in means.items()}
    law = fit_power_law(compute, [error.value for error in errors.values()])
    points = {run: (cost, error.value) for (run, error), cost in zip(errors.items(), compute, strict=True)}
    figure = figures.plot_scaling(
        points,
        lambda x: law.confidence_band(x).value_N,
        lambda x: (law.confidence_band(x).low_N, law.confidence_band(x).high_N),
        lambda x: (law.prediction_band(x).low_N, law.prediction_band(x).high_N),
        unit,
    )
    factor = 2**law.exponent.value
    reading = (
        f"Mean error over {', '.join(chosen)}: each doubling of {unit} multiplies it by {factor:.2f}; exponent "
        f"{law.exponent.value:.2f} [{law.exponent.low:.2f}, {law.exponent.high:.2f}] over {len(run_dirs)} runs."
    )
    measured = {"error": errors, "law": {"exponent": law.exponent}}
    return StudyResult("Error against compute", measured, (reading,), (Section("Scaling", reading, figure),))


def study_supervised(run_dir: Path, features_path: Path) -> StudyResult:
    """Set a run's zero-shot accuracy against supervised probes on any other features (Fig. 5).

    Args:
        run_dir: A folder that `zebra evaluate` wrote.
        features_path: A Parquet file as `zebra.evaluators.features` reads it; it decides which sets are compared.

    Raises:
        DataError: The run was not evaluated on a set of the file, or on other pictures.
    """
    zero_shot, probe, notes = {}, {}, []
    for name, (train, test) in read_features(features_path).items():
        answers = load_predictions(run_dir, name)
        if set(answers["id"].to_pylist()) != set(test.ids):
            raise DataError(
                f"the test features of {name} in {features_path} are of other pictures than {run_dir} was evaluated on: "
                f"{len(test.ids)} against {len(answers)}; use the ids of its predictions"
            )
        assert train.labels is not None and test.labels is not None
        found = fit_linear_probe(train, test, int(max(train.labels.max(), test.labels.max())) + 1)
        probe[name] = found.result.scores()[PRIMARY_METRIC]
        zero_shot[name] = load_top1_scores(run_dir)[name]
        notes.append(f"{name}: {len(train.ids):,} training features, λ = {found.probe.l2_penalty:.3g}")
    leads = subtract_probe_scores(zero_shot, probe)
    won = sum(lead.value > 0 for lead in leads.values())
    reading = (
        f"Zero-shot less a supervised probe on {features_path.name}: words alone are ahead on {won} of "
        f"{len(leads)} sets."
    )
    scores = {"zero-shot": zero_shot, "probe": probe, "lead": leads}
    section = Section("Words against full supervision", reading, figures.plot_probe_differences(leads))
    return StudyResult("Zero-shot against a supervised probe", scores, tuple(notes), (section,))


def load_predictions(run_dir: Path, dataset: str) -> pa.Table:
    """Return a run's zero-shot predictions on a set; DataError if it has none."""
    table = read_predictions(run_dir / "predictions", dataset, ZERO_SHOT_TASK)
    if table is None:
        raise DataError(
            f"{predictions_path(run_dir / 'predictions', dataset, ZERO_SHOT_TASK)} is not there; run: zebra evaluate MODEL {dataset} "
            f"--out {run_dir}"
        )
    return table


def load_top1_scores(run_dir: Path) -> dict[str, Score]:
    """Return a run's zero-shot top-1 by set."""
    results = read_latest_results(run_dir).items()
    return {
        name: result.score
        for (name, task, metric), result in results
        if (task, metric) == (ZERO_SHOT_TASK, PRIMARY_METRIC)
    }


def shorten_run_names(run_dirs: Sequence[Path]) -> dict[Path, str]:
    """Call each run by its folder, or by its whole path where two folders are called the same.

    Raises:
        DataError: A run is named twice.
    """
    if repeated := [run for run, count in Counter(run_dirs).items() if count > 1]:
        raise DataError(f"the run {repeated[0]} is named twice; name each once")
    counts = Counter(run.resolve().name for run in run_dirs)
    return {run: run.resolve().name if counts[run.resolve().name] == 1 else str(run) for run in run_dirs}


def format_score(score: Score | None) -> str:
    """Write a score with its interval; a dash for none."""
    return (
        "–"
        if score is None
        else f"{format_percent(score.value)} [{format_percent(score.low)}, {format_percent(score.high)}]"
    )


def _read_column(path: Path, column: str) -> dict[str, object]:
    """Read one column of a table by the ids of its rows."""
    if path.suffix.lower() not in TABLE_FORMATS or not path.is_file():
        raise DataError(f"{path} is no table that is there; name a {', '.join(TABLE_FORMATS)} file")
    table = open_table(path)
    if column not in table.columns:
        raise DataError(f"{path} has no column {column!r}.{suggest_name(column, table.columns)}")
    named = "id" in table.columns
    told: dict[str, object] = {}
    for line, row in table.read(["id", column] if named else [column]):
        if isinstance(row, BadRow):
            raise DataError(f"{path}:{line}: {row.reason} ({row.detail})")
        told[str(row["id"]) if named else f"{path.name}:{line}"] = row.get(column)
    return told
