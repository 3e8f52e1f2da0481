"""`zebra menagerie`: a size and a seed in; the built-in world as shards and evaluation folders out."""

from collections.abc import Callable
from pathlib import Path

from zebra.config.menagerie import MenagerieConfig
from zebra.menagerie.write import MenageriePaths, write_menagerie


def run(
    config: MenagerieConfig, *, callback: Callable[[int, int], None] = lambda _done, _total: None
) -> MenageriePaths:
    """Write the world, or return the one that is there already.

    Raises:
        DataError: The folder holds something else; nothing is deleted.
    """
    return write_menagerie(
        Path(config.out), config.samples, config.seed, workers=config.workers, callback=callback
    )
