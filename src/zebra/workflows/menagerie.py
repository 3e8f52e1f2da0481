"""The task `zebra menagerie`: generate the built-in dataset."""

from collections.abc import Callable
from pathlib import Path

from zebra.config.menagerie import MenagerieConfig
from zebra.menagerie.write import MenageriePaths, write_menagerie


def run(
    config: MenagerieConfig, *, callback: Callable[[int, int], None] = lambda _done, _total: None
) -> MenageriePaths:
    """Write training shards and evaluation folders; return the paths of an existing dataset without writing.

    Args:
        callback: Called with the number of finished images and the total.

    Raises:
        DataError: The folder contains anything else; nothing is deleted.
    """
    return write_menagerie(Path(config.out), config.samples, config.seed, workers=config.workers, callback=callback)
