"""`zebra compare RUN RUN...`: evaluations side by side, beside published numbers, with a paired test."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import PositionalTexts, parse
from zebra.cli.main import DONE, USAGE, say

DESCRIPTION = """Put evaluations beside each other.

RUN is a folder that `zebra evaluate` or `zebra demo` wrote. Of a score that was measured several times the last counts.
The first run is compared with each other one, sample by sample, where both left predictions on the same pictures.
"""


@dataclass(frozen=True, slots=True)
class Words:
    """What `zebra compare` is told."""

    runs: PositionalTexts
    """At least two folders; the first is the one the others are compared with."""
    json: bool = False
    """Print one JSON document instead of lines."""


def run(words: Sequence[str]) -> int:
    """Compare, and print a table."""
    told = parse(Words, "compare", words, description=DESCRIPTION)
    if len(told.runs) < 2:
        say("zebra compare: name at least two runs", error=True)
        return USAGE
    import json
    from dataclasses import asdict

    from zebra.workflows import compare

    rows = compare.run(told.runs)
    if told.json:
        say(json.dumps([asdict(row) for row in rows], indent=1))
        return DONE
    for row in rows:
        scores = "  ".join(
            "       —      " if score is None else f"{score.value:6.1%} ±{(score.high - score.low) / 2:5.1%}"
            for score in row.scores
        )
        published = f"  published {row.published}" if row.published else ""
        say(f"{row.set:<20} {row.task:<22} {row.metric:<16} {scores}{published}")
        for other, test in row.against.items():
            say(
                f"{'':<20} {told.runs[0]} − {other}: {test.difference.value:+.1%} "
                f"[{test.difference.low:+.1%}, {test.difference.high:+.1%}], p = {test.p:.2g}, {test.won} won, "
                f"{test.lost} lost"
            )
    return DONE
