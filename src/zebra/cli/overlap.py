"""`zebra overlap MODEL DATA DATASET... --out DIR`: are evaluation pictures in the training data, and did that help?"""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import PositionalStr, PositionalStrs, parse_args
from zebra.cli.main import EXIT_OK, EXIT_USAGE, echo
from zebra.cli.progress import ProgressBar
from zebra.config.overlap import OverlapConfig

DESCRIPTION = """Find near duplicates of evaluation pictures in training data; compare accuracy with and without them.

DATA is what MODEL was trained on; each DATASET a labelled set as `zebra evaluate` takes it. Look at OUT/pairs.csv, the
nearest pairs first, before you believe a threshold.
"""


@dataclass(frozen=True, slots=True)
class Args:
    """What `zebra overlap` is told."""

    model: PositionalStr
    """A model of any layout."""
    data: PositionalStr
    """Its training pictures."""
    datasets: PositionalStrs
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


def run(argv: Sequence[str]) -> int:
    """Compare, and print a line per set."""
    told = parse_args(Args, "overlap", argv, description=DESCRIPTION)
    if not told.datasets:
        echo("zebra overlap: name at least one data set", err=True)
        return EXIT_USAGE
    from zebra.workflows import overlap

    with ProgressBar("overlap") as display:
        results = overlap.run(
            OverlapConfig(**{name: getattr(told, name) for name in Args.__slots__}),
            callback=lambda what, done, total: display.update(done, total, what),
        )
    for one in results:
        found = one.scores
        line = f"{one.dataset:<20} {found.contamination.value:6.1%} have a duplicate (cosine ≥ {one.threshold:.3f})"
        if found.clean and found.overlap:
            line += f"; all {found.all.value:.1%}, clean {found.clean.value:.1%}, overlap {found.overlap.value:.1%}"
            line += f"; all − clean {found.inflation:+.1%}, p = {one.corrected_p_value:.2g}"
        echo(line)
    echo(f"pairs to look at: {told.out}/pairs.csv")
    return EXIT_OK
