"""`zebra compare RUN RUN...`: evaluations side by side, beside published numbers, with a paired test."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import PositionalStrs, parse_args
from zebra.cli.main import EXIT_OK, EXIT_USAGE, echo

DESCRIPTION = """Put evaluations beside each other.

RUN is a folder that `zebra evaluate` or `zebra demo` wrote. Of a score that was measured several times the last counts.
The first run is compared with each other one, sample by sample, where both left predictions on the same pictures.
"""


@dataclass(frozen=True, slots=True)
class Args:
    """What `zebra compare` is told."""

    runs: PositionalStrs
    """At least two folders; the first is the one the others are compared with."""
    json: bool = False
    """Print one JSON document instead of lines."""


def run(argv: Sequence[str]) -> int:
    """Compare, and print a table."""
    told = parse_args(Args, "compare", argv, description=DESCRIPTION)
    if len(told.runs) < 2:
        echo("zebra compare: name at least two runs", err=True)
        return EXIT_USAGE
    import json
    from dataclasses import asdict

    from zebra.workflows import compare

    rows = compare.run(told.runs)
    if told.json:
        echo(json.dumps([asdict(row) for row in rows], indent=1))
        return EXIT_OK
    for row in rows:
        scores = "  ".join(
            "       —      " if score is None else f"{score.value:6.1%} ±{(score.high - score.low) / 2:5.1%}"
            for score in row.scores
        )
        published = f"  published {row.published_scores}" if row.published_scores else ""
        echo(f"{row.dataset:<20} {row.task:<22} {row.metric:<16} {scores}{published}")
        for other, test in row.comparisons.items():
            echo(
                f"{'':<20} {told.runs[0]} − {other}: {test.difference.value:+.1%} "
                f"[{test.difference.low:+.1%}, {test.difference.high:+.1%}], p = {test.p_value:.2g}, {test.num_wins} won, "
                f"{test.num_losses} lost"
            )
    return EXIT_OK
