"""The command `zebra menagerie OUT`."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import OutArg, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.cli.progress import ProgressBar
from zebra.config.menagerie import MenagerieConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(MenagerieConfig):
    """Arguments of `zebra menagerie`."""

    out: OutArg


def run(argv: Sequence[str]) -> int:
    """Generate the dataset with a progress bar and print the paths."""
    args = parse_args(
        Args, "menagerie", argv, description="Generate the built-in dataset: captioned drawings of animals."
    )
    from zebra.workflows import menagerie

    with ProgressBar("drawing") as progress:
        paths = menagerie.run(args, callback=progress.update)
    echo(f"training shards: {paths.train_dir}\nevaluation datasets: {', '.join(sorted(paths.evaluation_dirs))}")
    return EXIT_OK
