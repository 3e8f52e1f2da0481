"""The command `zebra evaluate MODEL DATASET... --out DIR`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast, get_args

from zebra.cli.arguments import CommaSeparatedInts, DatasetArgs, ModelArg, comma_separated, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.config.evaluate import DEFAULT_TASKS, EvaluateConfig, Task
from zebra.errors import suggest_name

if TYPE_CHECKING:
    from zebra.evaluators.results import TaskResult

DESCRIPTION = f"""Evaluate a model on datasets, as in the CLIP paper, with 95 % intervals.

DATASET is a folder (CLIP_benchmark layout, class folders, Winoground, SugarCrepe), a table with labels, hf:org/name,
a built-in dataset (menagerie/zebra, digits), a name of the catalog (with --data-root), or "limitations": datasets for
CLIP's known weaknesses. --tasks takes {", ".join(get_args(Task))}, separated by commas.
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
    shots: CommaSeparatedInts = (1, 2, 4, 8, 16)


def run(argv: Sequence[str]) -> int:
    """Evaluate, print one line per task, and write the result files."""
    args = parse_args(Args, "evaluate", argv, description=DESCRIPTION)
    from zebra.workflows import evaluate

    printed_notes: set[str] = set()

    def show(result: "TaskResult") -> None:
        _print_result(result)
        for note in result.notes:
            if note not in printed_notes:
                echo(f"  {result.dataset}: {note}")
        printed_notes.update(result.notes)

    evaluate.run(args, callback=show)
    echo(f"scores: {args.out}/metrics.json; report: {args.out}/report.html")
    return EXIT_OK


def _print_result(result: "TaskResult") -> None:
    scores = [
        f"{metric} {score.value:.1%} [{score.low:.1%}, {score.high:.1%}]" for metric, score in result.scores.items()
    ]
    num_samples = next(iter(result.scores.values())).n
    echo(f"{result.dataset:<20} {result.task:<20} {'  '.join(scores[:4])}  n={num_samples}")
