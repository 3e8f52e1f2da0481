"""The command `zebra dedup FOLDER|STORE --out DIR`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from zebra.cli.arguments import parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.cli.progress import ProgressBar
from zebra.config.dedup import DedupConfig
from zebra.data.bad_samples import describe_bad_samples

DESCRIPTION = """Find near duplicates among images: same bytes, rescaled, recompressed or cropped.

OUT gets groups.csv and duplicates.html, a page with the images. --by vectors compares the vectors of a store instead of
pixels. Nothing is changed unless you say --move-to DIR or
--delete: the largest image of each group stays, the others go with their captions, and removed.csv lists them.
"""

FolderOrStoreArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER|STORE")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(DedupConfig):
    """Arguments of `zebra dedup`."""

    data: FolderOrStoreArg


def run(argv: Sequence[str]) -> int:
    """Find duplicates and print how many there are."""
    args = parse_args(Args, "dedup", argv, description=DESCRIPTION)
    from zebra.workflows import dedup

    with ProgressBar("dedup") as progress:
        result = dedup.run(args, callback=progress.update)
    if result.bad_samples:
        echo(f"{args.data}: {len(result.bad_samples)} images skipped: {describe_bad_samples(result.bad_samples)}")
    if result.num_same_files:
        echo(f"{result.num_same_files} links to images that are listed by another name")
    if result.num_skipped:
        echo(f"very many images are alike: {result.num_skipped:,} comparisons left out. Remove copies, run again.")
    echo(f"{result.num_duplicates:,} of {result.num_images:,} images are duplicates; groups: {len(result.groups):,}")
    for outcome, count in sorted(result.outcomes.items()):
        echo(f"{count:,} {outcome}")
    echo(f"list: {args.out}/groups.csv\npage: {args.out}/duplicates.html")
    if args.column:
        echo(f"column: {args.column}")
    return EXIT_OK
