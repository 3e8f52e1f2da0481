"""`zebra overlap MODEL DATA DATASET... --out DIR`: are evaluation pictures in the training data, and did that help?"""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import PositionalText, PositionalTexts, parse
from zebra.cli.main import DONE, USAGE, say
from zebra.cli.progress import CountingDisplay
from zebra.config.overlap import OverlapConfig

DESCRIPTION = """Find near duplicates of evaluation pictures in training data; compare accuracy with and without them.

DATA is what MODEL was trained on; each DATASET a labelled set as `zebra evaluate` takes it. Look at OUT/pairs.csv, the
nearest pairs first, before you believe a threshold.
"""


@dataclass(frozen=True, slots=True)
class Words:
    """What `zebra overlap` is told."""

    model: PositionalText
    """A model of any layout."""
    data: PositionalText
    """Its training pictures."""
    datasets: PositionalTexts
    """Labelled evaluation sets."""
    out: str
    """The folder for overlap.json and pairs.csv."""
    threshold: float | None = None
    """Cosine from which two pictures count as one; by default measured, for one false alarm in a hundred pictures."""
    steps: int = 400
    """Of the detector's training."""
    seed: int = 0
    """Of the detector."""
    data_root: str | None = None
    """Where archives and copies of the catalogue's sets lie."""


def run(words: Sequence[str]) -> int:
    """Compare, and print a line per set."""
    told = parse(Words, "overlap", words, description=DESCRIPTION)
    if not told.datasets:
        say("zebra overlap: name at least one data set", error=True)
        return USAGE
    from zebra.workflows import overlap

    with CountingDisplay("overlap") as display:
        results = overlap.run(
            OverlapConfig(**{name: getattr(told, name) for name in Words.__slots__}),
            watch=lambda what, done, total: display.update(done, total, what),
        )
    for one in results:
        found = one.found
        line = (
            f"{one.set:<20} {found.contamination.value:6.1%} have a duplicate (cosine ≥ {one.threshold:.3f})"
        )
        if found.clean and found.overlap:
            line += f"; all {found.all.value:.1%}, clean {found.clean.value:.1%}, overlap {found.overlap.value:.1%}"
            line += f"; all − clean {found.inflation:+.1%}, p = {one.p_corrected:.2g}"
        say(line)
    say(f"pairs to look at: {told.out}/pairs.csv")
    return DONE
