"""The page of `zebra compare`: scores and training curves of several runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from zebra.errors import ConfigError
from zebra.evaluators.run_comparison import ComparisonRow
from zebra.report.comparison_figures import plot_training_curves
from zebra.report.page import ReportTable, Section, write_page
from zebra.report.style import format_metric, format_percent
from zebra.train.training_run import TrainingRun


def write_comparison_page(
    path: Path, runs: Sequence[str], rows: Sequence[ComparisonRow], training_runs: Mapping[str, TrainingRun]
) -> None:
    """Write the page.

    Args:
        path: The HTML file to write; its directory is created.
        runs: The compared runs.
        rows: Scores of evaluations; may be empty.
        training_runs: Logs by run, for the runs that `zebra train` wrote.

    Raises:
        ConfigError: The file cannot be written.
    """
    names = dict(zip(runs, shorten_names(runs), strict=True))
    logs = {names[run]: training_run for run, training_run in training_runs.items()}
    sections = []
    if logs:
        sections += [_final_section(logs), _curve_section(logs)]
    if rows:
        sections.append(_score_section([*names.values()], rows))
    if differences := _difference_rows(names, rows):
        sections.append(_difference_section(names[runs[0]], differences))
    title = f"{' and '.join(names.values())} compared" if len(runs) == 2 else f"{len(runs)} runs compared"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(path, title, _summarize(logs, rows, names), sections)
    except OSError as error:
        raise ConfigError(f"cannot write --page {path}: {error.strerror}. Name another file") from error


def shorten_names(runs: Sequence[str]) -> list[str]:
    """Return the shortest ends of the paths that differ from each other.

    >>> shorten_names(["runs/a/model", "runs/b/model"]), shorten_names(["x/a", "x/b"])
    (['a/model', 'b/model'], ['a', 'b'])
    """
    parts = [Path(run).parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(set(runs)):
            return names
    return list(runs)


def _summarize(logs: Mapping[str, TrainingRun], rows: Sequence[ComparisonRow], names: Mapping[str, str]) -> str:
    sentences = []
    scores = _shared_scores(logs)
    if scores:
        name, value_by_run = next(iter(scores.items()))
        best = max(value_by_run, key=value_by_run.__getitem__)
        others = ", ".join(f"{run} {format_percent(value)}" for run, value in value_by_run.items() if run != best)
        sentences.append(
            f"{best} ends with the highest score on {name}: {format_percent(value_by_run[best])} ({others})."
        )
    first = next(iter(names.values()))
    for run, name in list(names.items())[1:]:
        tests = [row.comparisons[run].difference for row in rows if run in row.comparisons]
        if tests:
            num_better, num_worse = sum(test.low > 0 for test in tests), sum(test.high < 0 for test in tests)
            sentences.append(
                f"{first} is better than {name} in {num_better} of {len(tests)} scores and worse in {num_worse}; for "
                "the others, the 95% interval of the difference contains 0."
            )
    if len({log.data_digest for log in logs.values() if log.data_digest}) > 1:
        sentences.append("The runs were trained on different data: their losses and held-out scores do not compare.")
    return " ".join(sentences) or "Scores of the runs side by side."


def _shared_scores(logs: Mapping[str, TrainingRun]) -> dict[str, dict[str, float]]:
    """Return validation score → run → last value, for the scores that at least two runs have."""
    last_scores = {run: log.last_scores() for run, log in logs.items()}
    names = dict.fromkeys(name for scores in last_scores.values() for name in scores)
    values = {name: {run: scores[name] for run, scores in last_scores.items() if name in scores} for name in names}
    return {name: value_by_run for name, value_by_run in values.items() if len(value_by_run) > 1}


def _final_section(logs: Mapping[str, TrainingRun]) -> Section:
    last_scores = {run: log.last_scores() for run, log in logs.items()}
    names = list(dict.fromkeys(name for scores in last_scores.values() for name in scores))
    rows = tuple(
        (
            run,
            f"{log.log_entries[-1]['step']:,}",
            f"{log.log_entries[-1]['samples']:,}",
            f"{log.log_entries[-1]['loss']:.3f}",
            *(format_percent(last_scores[run][name]) if name in last_scores[run] else "–" for name in names),
        )
        for run, log in logs.items()
    )
    summary = "The last line of each training log, with the last value of each validation score."
    return Section("Final scores", summary, ReportTable(("run", "steps", "pairs", "loss", *names), rows))


def _curve_section(logs: Mapping[str, TrainingRun]) -> Section:
    summary = "Loss and validation scores against the number of image–caption pairs that each run has processed."
    return Section(
        "Training curves", summary, plot_training_curves({run: log.log_entries for run, log in logs.items()})
    )


def _score_section(names: Sequence[str], rows: Sequence[ComparisonRow]) -> Section:
    columns = ("dataset", "task", "metric", *names)
    cells = tuple(
        (row.dataset, row.task, row.metric, *(format_metric(row.metric, score) for score in row.scores)) for row in rows
    )
    return Section("Scores", "Each score with its 95% interval.", ReportTable(columns, cells))


def _difference_rows(names: Mapping[str, str], rows: Sequence[ComparisonRow]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            f"{row.dataset}, {row.task}, {row.metric}",
            names[run],
            f"{100 * test.difference.value:+.1f} [{100 * test.difference.low:+.1f}, {100 * test.difference.high:+.1f}]",
            f"{test.p_value:.2g}",
        )
        for row in rows
        for run, test in row.comparisons.items()
    )


def _difference_section(first: str, rows: tuple[tuple[str, ...], ...]) -> Section:
    summary = (
        f"{first} minus the other run, in percentage points, on the same images. Intervals and p-values are of a "
        "paired bootstrap."
    )
    return Section("Paired differences", summary, ReportTable(("score", "other run", "difference", "p"), rows))
