"""The command `zebra overlap MODEL DATA DATASET... --out DIR`."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import DataArg, DatasetArgs, ModelArg, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.cli.progress import ProgressBar
from zebra.config.overlap import OverlapConfig

DESCRIPTION = """Find near duplicates of evaluation images in training data, and their effect on accuracy.

DATA is what MODEL was trained on. Each DATASET is a labeled dataset, named as for `zebra evaluate`. Check the nearest
pairs in OUT/pairs.csv before you trust a threshold.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(OverlapConfig):
    """Arguments of `zebra overlap`."""

    model: ModelArg
    data: DataArg
    datasets: DatasetArgs


def run(argv: Sequence[str]) -> int:
    """Search for duplicates and print one line per dataset."""
    args = parse_args(Args, "overlap", argv, description=DESCRIPTION)
    from zebra.workflows import overlap

    with ProgressBar("overlap") as progress:
        results = overlap.run(args, callback=progress.update)
    for result in results:
        scores = result.scores
        line = (
            f"{result.dataset:<20} {scores.contamination.value:6.1%} have a duplicate (cosine ≥ {result.threshold:.3f})"
        )
        if scores.clean and scores.overlap:
            line += f"; all {scores.all.value:.1%}, clean {scores.clean.value:.1%}, overlap {scores.overlap.value:.1%}"
            line += f"; all − clean {scores.inflation:+.1%}, p = {result.corrected_fisher_p_value:.2g} (Fisher), "
            line += f"{result.corrected_binomial_p_value:.2g} (binomial)"
        echo(line)
    echo(f"nearest pairs: {args.out}/pairs.csv")
    return EXIT_OK
