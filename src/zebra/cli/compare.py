"""The command `zebra compare RUN RUN...`."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zebra.cli.arguments import RunArgs, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.config.compare import CompareConfig
from zebra.errors import ConfigError

if TYPE_CHECKING:
    from zebra.evaluators.run_comparison import ComparisonRow
    from zebra.values import Score

DESCRIPTION = """Compare evaluations and training runs.

RUN is a directory that `zebra evaluate`, `zebra demo` or `zebra train` wrote. If a score was measured several times,
the last one counts. The first run is compared with each other one, image by image, where both have predictions on the
same images. For training runs, the final loss and validation scores are printed, and --page draws their curves.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(CompareConfig):
    """Arguments of `zebra compare`."""

    runs: RunArgs
    """At least two directories; the first is compared with each other one."""
    json: bool = False
    """Print one JSON document instead of text."""


def run(argv: Sequence[str]) -> int:
    """Compare runs and print a table."""
    args = parse_args(Args, "compare", argv, description=DESCRIPTION)
    if args.json and args.format:
        raise ConfigError(f"--json and --format {args.format} are two formats of the output. Omit one of them.")
    import json
    from dataclasses import asdict

    from zebra.report.score_table import format_scores
    from zebra.workflows import compare

    rows = compare.run(args)
    if args.json:
        echo(json.dumps([asdict(row) for row in rows], indent=1))
        return EXIT_OK
    prints_table = args.format is not None and args.table is None
    with redirect_stdout(sys.stderr) if prints_table else nullcontext():
        for row in rows:
            _print_row(row, args.runs[0])
        for run_dir, training_run in compare.read_training_runs(args).items():
            last = training_run.log_entries[-1]
            scores = "".join(f"  {name} {score:.1%}" for name, score in training_run.last_scores().items())
            echo(f"{run_dir:<20} {last['step']:,} steps  {last['samples']:,} pairs  loss {last['loss']:.3f}{scores}")
    if args.format is not None and prints_table:
        echo(format_scores(args.format, args.runs, rows).rstrip("\n"))
    return EXIT_OK


def _print_row(row: "ComparisonRow", first_run: str) -> None:
    scores = "  ".join("       —      " if score is None else _format_score(row.metric, score) for score in row.scores)
    published = f"  published {row.published_scores}" if row.published_scores else ""
    echo(f"{row.dataset:<20} {row.task:<22} {row.metric:<16} {scores}{published}")
    for other, test in row.comparisons.items():
        exact = test.mcnemar_p_value
        mcnemar = "" if exact is None else f" (bootstrap), {exact:.2g} (McNemar)"
        echo(
            f"{'':<20} {first_run} − {other}: {test.difference.value:+.1%} "
            f"[{test.difference.low:+.1%}, {test.difference.high:+.1%}], p = {test.p_value:.2g}{mcnemar}, "
            f"{test.num_wins} won, {test.num_losses} lost"
        )


def _format_score(metric: str, score: "Score") -> str:
    from zebra.report.style import PLAIN_METRICS

    half_width = (score.high - score.low) / 2
    if metric in PLAIN_METRICS:
        return f"{score.value:6.3f} ±{half_width:5.3f}"
    return f"{score.value:6.1%} ±{half_width:5.1%}"
