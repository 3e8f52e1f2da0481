"""The command `zebra evaluate MODEL DATASET... --out DIR`."""

import sys
from collections.abc import Collection, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

from zebra.cli.arguments import (
    CommaSeparatedInts,
    CommaSeparatedStrs,
    DatasetArgs,
    ModelArg,
    comma_separated,
    parse_args,
)
from zebra.cli.main import EXIT_OK, echo
from zebra.cli.progress import ProgressBar
from zebra.config.evaluate import DEFAULT_TASKS, EvaluateConfig, Task
from zebra.errors import suggest_name

if TYPE_CHECKING:
    from zebra.evaluators.results import TaskResult
    from zebra.evaluators.suite_results import SuiteResult

NUM_WORST_CLASSES = 3
"""Number of classes in the terminal; the report has all."""
DESCRIPTION = f"""Evaluate a model on datasets, as in the CLIP paper, with 95 % intervals.

DATASET is labeled images (class folders, a table with labels, CLIP_benchmark layout, hf:org/name) for zero-shot
classification; captioned images in any layout that `zebra train` reads, for retrieval; compositionality benchmarks; a
built-in dataset (menagerie/zebra, digits), a name of the catalog (with --data-root), or suite:NAME,NAME: datasets with
one number, such as suite:paper-27 and suite:all. --tasks takes {", ".join(get_args(Task))}, separated by commas.
"""


def parse_task(name: str) -> Task:
    """Return the name of a task; ValueError if there is no such task."""
    if name not in get_args(Task):
        raise ValueError(f"unknown task: {name!r}.{suggest_name(name, get_args(Task))}")
    return cast(Task, name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(EvaluateConfig):
    """Arguments of `zebra evaluate`."""

    model: ModelArg
    datasets: DatasetArgs
    tasks: Annotated[tuple[Task, ...], comma_separated(parse_task, "TASK,TASK")] = DEFAULT_TASKS
    languages: CommaSeparatedStrs = ()
    ood_datasets: CommaSeparatedStrs = ()
    shots: CommaSeparatedInts = (1, 2, 4, 8, 16)


def run(argv: Sequence[str]) -> int:
    """Evaluate, print one line per task or a table, and write the result files."""
    args = parse_args(Args, "evaluate", argv, description=DESCRIPTION)
    from zebra.distributed import world_info_from_env
    from zebra.workflows import evaluate

    evaluated: set[tuple[str, str]] = set()
    printed_notes: set[str] = set()
    progress = ProgressBar("evaluating")

    def show(result: "TaskResult") -> None:
        progress.pause()
        evaluated.add((result.dataset, result.task))
        _print_result(result)
        _print_classes(result)
        for note in result.notes:
            if note not in printed_notes:
                echo(f"  {result.dataset}: {note}")
        printed_notes.update(result.notes)

    def show_suite(result: "SuiteResult") -> None:
        progress.pause()
        _print_suite(result)

    if not world_info_from_env().is_main_process:
        evaluate.run(args)
        return EXIT_OK
    prints_table = args.format is not None and args.table is None
    with redirect_stdout(sys.stderr) if prints_table else nullcontext():
        with progress:
            evaluate.run(args, callback=show, suite_callback=show_suite, progress=progress.update)
        echo(f"scores: {args.out}/metrics.json; report: {args.out}/report.html")
    if prints_table:
        _print_table(args, evaluated)
    return EXIT_OK


def _print_table(args: Args, evaluated: Collection[tuple[str, str]]) -> None:
    """Print the scores of the tasks, each a dataset and its name, in `args.format`."""
    from zebra.evaluators.results_io import read_latest_results
    from zebra.report.score_table import format_scores, to_rows

    assert args.format is not None
    records = read_latest_results(Path(args.out)).values()
    rows = to_rows(record for record in records if (record.dataset, record.task) in evaluated)
    echo(format_scores(args.format, [args.model], rows).rstrip("\n"))


def _print_result(result: "TaskResult") -> None:
    from zebra.report.style import format_metric

    scores = [f"{metric} {format_metric(metric, score)}" for metric, score in result.scores.items()]
    num_samples = next(iter(result.scores.values())).n
    echo(f"{result.dataset:<20} {result.task:<20} {'  '.join(scores[:4])}  n={num_samples}")


def _print_suite(result: "SuiteResult") -> None:
    """Print a suite's mean, its missing datasets, notes, and the means of known models over the same datasets."""
    from zebra.report.suites import describe_number, describe_published

    echo(f"suite:{result.suite.name:<14} {describe_number(result)}")
    if result.missing:
        echo(f"  missing: {', '.join(result.missing)} (suites.json says why, and how to get them)")
    for note in result.notes:
        echo(f"  {note}")
    for line in describe_published(result):
        echo(f"  {line}")


def _print_classes(result: "TaskResult") -> None:
    """Print the least accurate classes and the most confused pair of a zero-shot result or linear probe."""
    from zebra.evaluators.class_results import ClassResults, has_classes

    if result.task not in ("zero-shot", "linear-probe") or not has_classes(result):
        return
    classes = ClassResults.from_predictions(result.predictions)
    pairs = classes.confused_pairs()
    if not pairs:
        return
    worst = ", ".join(
        f"{entry.name} {entry.accuracy.value:.0%} of {entry.accuracy.n}"
        for entry in classes.accuracies()[:NUM_WORST_CLASSES]
        if entry.accuracy.value < 1
    )
    echo(f"  least accurate classes: {worst}")
    echo(f"  most confused: {pairs[0].label} taken for {pairs[0].predicted}, {pairs[0].count} of {pairs[0].num_images}")
