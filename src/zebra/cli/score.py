"""The command `zebra score DATA --model MODEL --out TABLE`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from textwrap import shorten
from typing import TYPE_CHECKING

from zebra.cli.arguments import DataArg, parse_args
from zebra.cli.main import EXIT_OK, EXIT_RESUMABLE, echo
from zebra.cli.progress import ProgressBar
from zebra.config.score import ScoreConfig
from zebra.data.ignored import format_ignored

if TYPE_CHECKING:
    from zebra.workflows.score import ScoreResult

MAX_CAPTION_CHARS = 60
DESCRIPTION = """Score how well image and caption of each pair match.

DATA is anything that `zebra train` reads. The table has a row per pair: id, caption, alignment (the cosine of the two
vectors) and neg_clip_loss (the alignment less that with random partners). Samples that cannot be used have a row with
the reason. After an interruption, run the same command again to continue.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ScoreConfig):
    """Arguments of `zebra score`."""

    data: DataArg
    json: bool = False
    """Print one JSON document instead of text."""


def run(argv: Sequence[str]) -> int:
    """Score with progress on standard error; return 75 if interrupted."""
    args = parse_args(Args, "score", argv, description=DESCRIPTION)
    from zebra.workflows import score

    with ProgressBar("score") as progress:
        result = score.run(args, callback=progress.update)
    if not result.finished:
        echo("zebra score: interrupted. Run the same command again to continue.", err=True)
        return EXIT_RESUMABLE
    if args.json:
        echo(json.dumps(asdict(result) | {"out": str(result.out)}, indent=1, ensure_ascii=False))
    else:
        for line in _format_result(result):
            echo(line)
    return EXIT_OK


def _format_result(result: "ScoreResult") -> list[str]:
    quantiles = ", ".join(f"{value:.3f} at {q:.0%}" for q, value in result.quantiles.items())
    lines = [f"{result.out}: {result.num_pairs:,} pairs ({result.precision}); alignment {quantiles}"]
    if result.unusable:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in result.unusable.items())
        lines.append(f"  {sum(result.unusable.values()):,} samples without a score: {reasons}")
    if result.ignored:
        lines.append(f"  {format_ignored(result.ignored)}")
    lines.append("  lowest:")
    lines += [
        f"    {alignment:.3f} {id}: {shorten(caption, MAX_CAPTION_CHARS, placeholder='…')!r}"
        for alignment, id, caption in result.lowest
    ]
    return lines
