"""A pool as the stages need it: pairs, their columns, and the images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from zebra.config.data import DataConfig
from zebra.config.fetch import FetchConfig
from zebra.curate.pairs import PAIR_SCHEMA, Pairs
from zebra.curate.pipeline import Stage
from zebra.curate.pools.download import Downloader
from zebra.curate.pools.downloaded_images import DownloadedImages
from zebra.curate.pools.link_pool import LinkPool, find_link_pool
from zebra.curate.pools.scan_links import LINK_SCHEMA, scan_links
from zebra.curate.pools.shard_tables import find_shard_tables
from zebra.curate.scan import scan_pool
from zebra.data.ignored import Ignored
from zebra.data.sources import Source, open_source
from zebra.engines import Engine

ScanCallback = Callable[[int, int, str], None]
"""Called with the number of samples or files done, their total and the stage."""


class Pool(Protocol):
    """A pool of pairs whose images are at hand, or behind links."""

    source: Source
    """The images by the column `index`; those of links once they are downloaded."""
    columns: Sequence[str]
    """Columns of the pairs."""
    has_images: bool
    """Whether the images are at hand."""
    unused: tuple[Ignored, ...]
    """What was found in the files and is no pair, after the scan."""

    @property
    def download_stages(self) -> Sequence[Stage]:
        """Return what comes between the rules for captions and those for images.

        Raises:
            ConfigError: Servers would be asked for images, and there is no contact for them.
        """

    def scan(self, callback: ScanCallback, engine: Engine, max_samples: int | None = None) -> Pairs:
        """Read the pairs; at most about `max_samples` samples."""


class ImagePool:
    """A pool of captioned images."""

    has_images = True
    download_stages: Sequence[Stage] = ()
    unused: tuple[Ignored, ...] = ()

    def __init__(self, source: Source, folder: Path, max_pixels: int) -> None:
        self.source = source
        self._tables = find_shard_tables(source)
        self.columns: Sequence[str] = (*PAIR_SCHEMA.names, *(self._tables.schema.names if self._tables else ()))
        self._folder, self._max_pixels = folder, max_pixels

    def scan(self, callback: ScanCallback, engine: Engine, max_samples: int | None = None) -> Pairs:
        """Read and decode all images, or evenly spaced ones."""
        step = 1 if max_samples is None else max(1, len(self.source) // max_samples)
        files = scan_pool(
            *(self.source, self._folder),
            step=step,
            max_pixels=self._max_pixels,
            engine=engine,
            callback=callback,
            tables=self._tables,
        )
        return Pairs(files)


class DownloadPool:
    """A pool of links."""

    has_images = False

    def __init__(self, links: LinkPool, folder: Path, downloader: Downloader) -> None:
        self._images = DownloadedImages(links.name, links.ignored, downloader.folder)
        self.source: Source = self._images
        self.columns: Sequence[str] = (*LINK_SCHEMA.names, *links.schema.names)
        self.unused: tuple[Ignored, ...] = ()
        self._links, self._folder, self._downloader = links, folder, downloader

    @property
    def download_stages(self) -> Sequence[Stage]:
        """Return the download and the rule that drops links without an image."""
        return self._downloader.stages()

    def scan(self, callback: ScanCallback, engine: Engine, max_samples: int | None = None) -> Pairs:
        """Read the links of all files, or the first ones of each."""
        per_file = None if max_samples is None else max(1, max_samples // len(self._links.files))
        units, self.unused = scan_links(self._links, self._folder, callback, engine, per_file)
        self._images.set_units(units)
        return Pairs([unit.path for unit in units])


@contextmanager
def open_pool(
    path: str, data_options: DataConfig, fetch: FetchConfig, folder: Path, source: Source | None = None
) -> Iterator[Pool]:
    """Open a pool of links, or one of any layout that `open_source` reads; connections are closed at the end.

    Args:
        path: See `find_link_pool` and `open_source`.
        data_options: Columns and limits.
        fetch: How images are downloaded.
        folder: Where pairs and downloaded images are kept.
        source: The images of the pool, if something else than `open_source` reads them.

    Raises:
        DataError: The pool cannot be read.
    """
    links = find_link_pool(path, data_options) if source is None else None
    if links is None:
        yield ImagePool(source or open_source(path, data_options), folder, data_options.max_image_pixels)
        return
    downloader = Downloader(fetch, folder, max_pixels=data_options.max_image_pixels)
    try:
        yield DownloadPool(links, folder, downloader)
    finally:
        downloader.close()
