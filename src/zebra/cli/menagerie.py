"""`zebra menagerie OUT`: the built-in world as tar shards and evaluation folders."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import PositionalText, parse
from zebra.cli.main import DONE, say
from zebra.cli.progress import CountingDisplay
from zebra.config.menagerie import WorldConfig


@dataclass(frozen=True, slots=True)
class Words:
    """What `zebra menagerie` is told."""

    out: PositionalText
    """The folder to write: OUT/train/*.tar and OUT/evaluation/<set>/."""
    samples: int = 40_000
    """Training pairs; the evaluation sets keep their size."""
    seed: int = 0
    """Of every picture and caption; which kinds are held out does not depend on it."""
    processes: int = 2
    """Processes that draw; the pixels are the same for any number."""


def run(words: Sequence[str]) -> int:
    """Draw the world, show progress, name what was written."""
    told = parse(Words, "menagerie", words, description="Write the built-in world of drawn animals.")
    from zebra.workflows import menagerie

    config = WorldConfig(out=told.out, samples=told.samples, seed=told.seed, processes=told.processes)
    with CountingDisplay("drawing") as display:
        world = menagerie.run(config, watch=display.update)
    say(f"training shards: {world.train}\nevaluation sets: {', '.join(sorted(world.evaluation))}")
    return DONE
