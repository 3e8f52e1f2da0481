"""`zebra evaluate MODEL DATASET... --out DIR`: the paper's evaluation, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zebra.cli.arguments import PositionalStr, PositionalStrs, parse_args
from zebra.cli.main import EXIT_OK, EXIT_USAGE, echo
from zebra.config.evaluate import EvaluateConfig

if TYPE_CHECKING:
    from zebra.evaluators.results import TaskResult

DESCRIPTION = """Measure a model on data sets.

DATASET is a folder (CLIP_benchmark's layout, class folders, Winoground, SugarCrepe), a table with labels, hf:org/name,
a built-in set (menagerie/zebra, digits), a name of the catalogue with --data-root, or limits: all that CLIP is bad at.
--tasks takes zero-shot, prompts, prompt-search, linear-probe, few-shot, retrieval and compositionality, separated by commas.
"""


@dataclass(frozen=True, slots=True)
class Args:
    """What `zebra evaluate` is told."""

    model: PositionalStr
    """A model of any layout, for instance runs/demo/model."""
    datasets: PositionalStrs
    """Data sets."""
    out: str
    """The folder for metrics.json, results.jsonl, predictions/ and report.html."""
    tasks: str = ""
    """What to measure; without it all that needs no training split."""
    split: str = "test"
    """The split that is scored."""
    prompts: str = "dataset"
    """own templates of each set, zebra's general ones, or a file: .json, OpenAI's prompts.md, a folder."""
    caption_prefix: str = ""
    """Put before every caption of a retrieval set; the paper takes "a photo of "."""
    data_root: str | None = None
    """Where archives and copies of the catalogue's sets lie."""
    precision: Literal["fp32", "bf16", "int8", "auto"] = "fp32"
    """Number format of the towers."""
    shots: str = "1,2,4,8,16"
    """Examples per class of the few-shot probes."""
    repeats: int = 3
    """Draws of examples, at least 3."""
    seed: int = 0
    """Of draws and bootstraps."""


def run(argv: Sequence[str]) -> int:
    """Evaluate, print a line per task, and write the files."""
    told = parse_args(Args, "evaluate", argv, description=DESCRIPTION)
    if not told.datasets:
        echo("zebra evaluate: name at least one data set", err=True)
        return EXIT_USAGE
    from zebra.config.structure import structure

    settings = {name: getattr(told, name) for name in Args.__slots__}
    settings["datasets"] = list(told.datasets)
    settings["shots"] = [part.strip() for part in told.shots.split(",")]
    settings["tasks"] = [part.strip() for part in told.tasks.split(",") if part.strip()]
    if not told.tasks:
        del settings["tasks"]
    config = structure(EvaluateConfig, settings, "options")
    from zebra.workflows import evaluate

    told_of: set[str] = set()

    def show(outcome: "TaskResult") -> None:
        _print_result(outcome)
        for note in outcome.notes:
            if note not in told_of:
                echo(f"  {outcome.dataset}: {note}")
        told_of.update(outcome.notes)

    evaluate.run(config, callback=show)
    echo(f"scores: {told.out}/metrics.json; report: {told.out}/report.html")
    return EXIT_OK


def _print_result(result: "TaskResult") -> None:
    shown = [
        f"{metric} {score.value:.1%} [{score.low:.1%}, {score.high:.1%}]"
        for metric, score in result.scores.items()
    ]
    echo(
        f"{result.dataset:<20} {result.task:<20} {'  '.join(shown[:4])}  n={next(iter(result.scores.values())).n}"
    )
