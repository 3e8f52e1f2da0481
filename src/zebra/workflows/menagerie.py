"""`zebra menagerie`: a size and a seed in; the built-in world as shards and evaluation folders out."""

from collections.abc import Callable
from pathlib import Path

from zebra.config.menagerie import WorldConfig
from zebra.menagerie.write import World, write_world


def run(config: WorldConfig, *, watch: Callable[[int, int], None] = lambda _done, _total: None) -> World:
    """Write the world, or return the one that is there already.

    Raises:
        DataError: The folder holds something else; nothing is deleted.
    """
    return write_world(
        Path(config.out), config.samples, config.seed, processes=config.processes, progress=watch
    )
