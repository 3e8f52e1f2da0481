"""`zebra study`: folders of evaluations in; what the paper makes of several of them, as lines and as a page, out.

Groups (§7), people against the model (§4), robustness (§3.3), scaling (Fig. 9), zero-shot against supervised (Fig. 5).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from zebra.data.benchmarks.clip_benchmark import read_benchmark
from zebra.data.table_files import FORMATS, Broken, open_table
from zebra.errors import DataError, nearest
from zebra.evaluators.features import read_features
from zebra.evaluators.results_io import latest_results, predictions_path, read_predictions
from zebra.protocols import robustness as protocol
from zebra.protocols.few_shot import zero_shot_less_probe
from zebra.protocols.groups import by_group
from zebra.protocols.human import read_answers
from zebra.protocols.linear_probe import linear_probe
from zebra.protocols.metrics import average
from zebra.protocols.scaling import fit_power_law
from zebra.report import study_figures as figures
from zebra.report.page import Section, Table
from zebra.report.style import percent
from zebra.values import Score
from zebra.workflows.human import standings

TASK = "zero-shot"
METRIC = "top1"


@dataclass(frozen=True, slots=True)
class Study:
    """What came out."""

    title: str
    scores: Mapping[str, Mapping[str, Score]]
    """What was measured → name → score."""
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    """For `write_page`."""


def groups(run: Path, name: str, table: Path, column: str) -> Study:
    """Divide a run's zero-shot accuracy on a set by a column of a table.

    Args:
        run: A folder that `zebra evaluate` wrote.
        name: Of the set.
        table: CSV, TSV, JSONL or Parquet, with the pictures' ids in a column `id`, or the table that was evaluated.
        column: What divides the pictures.

    Raises:
        DataError: The run has no predictions for the set, the table lacks the column or a picture.
    """
    answers = predictions(run, name)
    told = _column(table, column)
    ids = answers["id"].to_pylist()
    if missing := [id for id in ids if id not in told]:
        raise DataError(
            f"{table} says nothing of {missing[0]!r}, one of {len(missing)} pictures of {name} without a row; ids "
            "stand in its column 'id', or are FILE:LINE where the table itself was evaluated"
        )
    found = by_group(np.asarray(answers["correct"]), [told[id] for id in ids])
    rows = tuple(
        (group, shown(score), f"{score.n:,}", "too few to compare" if group in found.small else "")
        for group, score in found.scores.items()
    )
    summary = {key: score for key, score in (("worst", found.worst), ("gap", found.gap)) if score}
    said = (
        ", ".join(f"{key} {shown(score)}" for key, score in summary.items()) or "too few pictures to compare"
    )
    section = Section(
        f"{name} by {column}",
        f"Accuracy of each group, the worst first: {said}. Intervals of the worst group and the gap allow for their "
        "having been chosen.",
        Table((column, "top-1", "pictures", ""), rows),
    )
    caution = Section(
        "Before you conclude",
        "What these numbers cannot say.",
        Table(("caution",), tuple((c,) for c in found.caution)),
    )
    scores = {"groups": found.scores, "summary": summary}
    return Study(f"Groups of {name}", scores, found.caution, (section, caution))


def human(run: Path, dataset: Path, answers: Path) -> Study:
    """Set people's answers beside a run's predictions on the same pictures (Table 2, Fig. 16).

    Args:
        run: A folder that `zebra evaluate` wrote for this set.
        dataset: The CLIP_benchmark folder that people were asked about.
        answers: The CSV file of `zebra human`, or of the quiz page.

    Raises:
        DataError: A file is not whole, or the run has not seen a picture that people were asked about.
    """
    benchmark = read_benchmark(dataset)
    seen = predictions(run, benchmark.name)
    ids = seen["id"].to_pylist()
    labels = dict(zip(ids, seen["label"].to_pylist(), strict=True))
    right = dict(zip(ids, seen["correct"].to_pylist(), strict=True))
    said = read_answers(answers, benchmark.classnames, labels)
    if not said:
        raise DataError(
            f"{answers} holds no answers; record some with zebra human, or with the quiz of zebra serve"
        )
    columns: dict[int, dict[str, Score | None]] = {}
    sections, notes = [], []
    for standing in standings(said, labels, right, benchmark.classnames):
        shots, row, hard = standing.shots, standing.people, standing.difficulty
        columns[shots] = {
            "accuracy": row.accuracy,
            "majority vote": row.majority,
            "on guesses": row.on_guesses,
            "majority on guesses": row.majority_on_guesses,
            "the model": standing.model,
        }
        notes.append(
            f"{shots} shots: {row.people} people, {row.answers} answers; {row.ties} ties left out of the majority, "
            f"{row.ties_on_guesses} of that on guesses"
        )
        r = hard.correlation
        agreement = f" Pearson's r over classes is {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]." if r else ""
        reading = f"What is hard for people, and whether it is for the model.{agreement} {notes[-1]}."
        figure = figures.difficulty(hard.classes, hard.people, hard.model)
        sections.append(Section(f"Difficulty after {shots} examples", reading, figure))
    table = Table(
        ("", *(f"{shots} examples" for shots in columns)),
        tuple(
            (name, *(shown(scores[name]) for scores in columns.values()))
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
    return Study(title, measured, tuple(notes), (first, *sections))


def robustness(
    runs: Sequence[Path],
    standard: str,
    models: Sequence[Path],
    shifts: Sequence[str] = (),
    baseline: Path | None = None,
) -> Study:
    """Measure some runs against the line of all others, under every shift (Fig. 13).

    Args:
        runs: The reference runs, of models trained on the standard set.
        standard: Name of the standard set.
        models: The runs to be judged.
        shifts: Names of shifted sets; by default all that every run has beside the standard one.
        baseline: The run that relative robustness is counted from; the first reference without it.

    Raises:
        DataError: Too few references, or a set that one run lacks.
    """
    names = short_names([*runs, *models])
    if baseline is not None and baseline not in names:
        raise DataError(f"the baseline {baseline} is none of the runs; name one of them")
    start = names[baseline or runs[0]]
    tops = {names[run]: top1(run) for run in (*runs, *models)}
    shared = set.intersection(*(set(scores) for scores in tops.values()))
    chosen = list(shifts) or sorted(shared - {standard})
    for model, scores in tops.items():
        for name in (standard, *chosen):
            if name not in scores:
                raise DataError(f"{model} has no zero-shot top-1 on {name!r}.{nearest(name, scores)}")
    accuracies = {
        model: {name: scores[name] for name in (standard, *chosen)} for model, scores in tops.items()
    }
    references = [names[run] for run in runs]
    found = protocol.robustness(accuracies, standard, references, start)
    measured: dict[str, Mapping[str, Score]] = {}
    sections = []
    for shift in found:
        measured[f"effective, {shift.name}"] = shift.effective
        measured[f"relative, {shift.name}"] = shift.relative
        reading = "; ".join(
            f"{model} lies {100 * lead.value:+.1f} points [{100 * lead.low:+.1f}, {100 * lead.high:+.1f}] from the "
            f"line, and {100 * shift.relative[model].value:+.1f} from {start}"
            for model, lead in shift.effective.items()
        )
        pairs = {model: (shift.standard[model], shift.shifted[model]) for model in tops}
        name = "all shifts" if shift.name == protocol.AVERAGE else shift.name
        figure = figures.robustness(
            {model: pairs[model] for model in references},
            {model: pairs[model] for model in shift.effective},
            shift.line.at,
            shift.line.band,
            standard,
            name,
        )
        sections.append(Section(f"Under {name}", f"{reading or 'The references alone'}.", figure))
    return Study(f"Robustness to {len(chosen)} shifts of {standard}", measured, (), tuple(sections))


def scaling(runs: Sequence[Path], compute: Sequence[float], unit: str, sets: Sequence[str] = ()) -> Study:
    """Fit error to compute over a family of runs (Fig. 9).

    Args:
        runs: Folders of `zebra evaluate`.
        compute: Of each run, in `unit`.
        unit: For instance "GFLOP per image", or "pictures seen".
        sets: Whose errors are averaged; by default all that every run has.

    Raises:
        DataError: Fewer than three runs, or compute for other than each, or a set that a run lacks.
    """
    names = short_names(runs)
    tops = {names[run]: top1(run) for run in runs}
    chosen = list(sets) or sorted(set.intersection(*(set(scores) for scores in tops.values())))
    for run, scores in tops.items():
        if lacking := [name for name in chosen if name not in scores]:
            raise DataError(f"{run} has no zero-shot top-1 on {lacking[0]!r}.{nearest(lacking[0], scores)}")
    if not chosen:
        raise DataError("the runs have no set in common; evaluate all of them on the same sets")
    means = {run: average([scores[name] for name in chosen]) for run, scores in tops.items()}
    errors = {run: Score(1 - s.value, 1 - s.high, 1 - s.low, s.n) for run, s in means.items()}
    law = fit_power_law(compute, [error.value for error in errors.values()])
    points = {run: (cost, error.value) for (run, error), cost in zip(errors.items(), compute, strict=True)}
    figure = figures.scaling(
        points,
        lambda x: law.band(x).value_N,
        lambda x: (law.band(x).low_N, law.band(x).high_N),
        lambda x: (law.prediction(x).low_N, law.prediction(x).high_N),
        unit,
    )
    factor = 2**law.exponent.value
    reading = (
        f"Mean error over {', '.join(chosen)}: each doubling of {unit} multiplies it by {factor:.2f}; exponent "
        f"{law.exponent.value:.2f} [{law.exponent.low:.2f}, {law.exponent.high:.2f}] over {len(runs)} runs."
    )
    measured = {"error": errors, "law": {"exponent": law.exponent}}
    return Study("Error against compute", measured, (reading,), (Section("Scaling", reading, figure),))


def supervised(run: Path, features: Path) -> Study:
    """Set a run's zero-shot accuracy against supervised probes on any other features (Fig. 5).

    Args:
        run: A folder that `zebra evaluate` wrote.
        features: A Parquet file as `zebra.evaluators.features` reads it; it decides which sets are compared.

    Raises:
        DataError: The run was not evaluated on a set of the file, or on other pictures.
    """
    zero_shot, probe, notes = {}, {}, []
    for name, (train, test) in read_features(features).items():
        answers = predictions(run, name)
        if set(answers["id"].to_pylist()) != set(test.ids):
            raise DataError(
                f"the test features of {name} in {features} are of other pictures than {run} was evaluated on: "
                f"{len(test.ids)} against {len(answers)}; use the ids of its predictions"
            )
        assert train.labels is not None and test.labels is not None
        found = linear_probe(train, test, int(max(train.labels.max(), test.labels.max())) + 1)
        probe[name] = found.outcome.scores()[METRIC]
        zero_shot[name] = top1(run)[name]
        notes.append(f"{name}: {len(train.ids):,} training features, λ = {found.probe.penalty:.3g}")
    leads = zero_shot_less_probe(zero_shot, probe)
    won = sum(lead.value > 0 for lead in leads.values())
    reading = (
        f"Zero-shot less a supervised probe on {features.name}: words alone are ahead on {won} of "
        f"{len(leads)} sets."
    )
    scores = {"zero-shot": zero_shot, "probe": probe, "lead": leads}
    section = Section("Words against full supervision", reading, figures.leads(leads))
    return Study("Zero-shot against a supervised probe", scores, tuple(notes), (section,))


def predictions(run: Path, name: str) -> pa.Table:
    """Return a run's zero-shot predictions on a set; DataError if it has none."""
    table = read_predictions(run / "predictions", name, TASK)
    if table is None:
        raise DataError(
            f"{predictions_path(run / 'predictions', name, TASK)} is not there; run: zebra evaluate MODEL {name} "
            f"--out {run}"
        )
    return table


def top1(run: Path) -> dict[str, Score]:
    """Return a run's zero-shot top-1 by set."""
    results = latest_results(run).items()
    return {
        name: result.score for (name, task, metric), result in results if (task, metric) == (TASK, METRIC)
    }


def short_names(runs: Sequence[Path]) -> dict[Path, str]:
    """Call each run by its folder, or by its whole path where two folders are called the same.

    Raises:
        DataError: A run is named twice.
    """
    if repeated := [run for run, count in Counter(runs).items() if count > 1]:
        raise DataError(f"the run {repeated[0]} is named twice; name each once")
    counts = Counter(run.resolve().name for run in runs)
    return {run: run.resolve().name if counts[run.resolve().name] == 1 else str(run) for run in runs}


def shown(score: Score | None) -> str:
    """Write a score with its interval; a dash for none."""
    return "–" if score is None else f"{percent(score.value)} [{percent(score.low)}, {percent(score.high)}]"


def _column(path: Path, column: str) -> dict[str, object]:
    """Read one column of a table by the ids of its rows."""
    if path.suffix.lower() not in FORMATS or not path.is_file():
        raise DataError(f"{path} is no table that is there; name a {', '.join(FORMATS)} file")
    table = open_table(path)
    if column not in table.columns:
        raise DataError(f"{path} has no column {column!r}.{nearest(column, table.columns)}")
    named = "id" in table.columns
    told: dict[str, object] = {}
    for line, row in table.read(["id", column] if named else [column]):
        if isinstance(row, Broken):
            raise DataError(f"{path}:{line}: {row.reason} ({row.detail})")
        told[str(row["id"]) if named else f"{path.name}:{line}"] = row.get(column)
    return told
