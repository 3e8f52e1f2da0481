"""`zebra menagerie OUT`: the built-in world as tar shards and evaluation folders."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import PositionalStr, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.cli.progress import ProgressBar
from zebra.config.menagerie import MenagerieConfig


@dataclass(frozen=True, slots=True)
class Args:
    """What `zebra menagerie` is told."""

    out: PositionalStr
    """The folder to write: OUT/train/*.tar and OUT/evaluation/<set>/."""
    samples: int = 40_000
    """Training pairs; the evaluation sets keep their size."""
    seed: int = 0
    """Of every picture and caption; which kinds are held out does not depend on it."""
    processes: int = 2
    """Processes that draw; the pixels are the same for any number."""


def run(argv: Sequence[str]) -> int:
    """Draw the world, show progress, name what was written."""
    told = parse_args(Args, "menagerie", argv, description="Write the built-in world of drawn animals.")
    from zebra.workflows import menagerie

    config = MenagerieConfig(out=told.out, samples=told.samples, seed=told.seed, workers=told.processes)
    with ProgressBar("drawing") as display:
        world = menagerie.run(config, callback=display.update)
    echo(f"training shards: {world.train_dir}\nevaluation sets: {', '.join(sorted(world.evaluation_dirs))}")
    return EXIT_OK
