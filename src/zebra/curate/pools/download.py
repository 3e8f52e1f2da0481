"""The download of the images of links, as a stage."""

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa

from zebra.config.cores import usable_cores
from zebra.config.fetch import FetchConfig
from zebra.curate.fetch.attempts import read_fetched
from zebra.curate.fetch.fetcher import Fetcher
from zebra.curate.fetch.outcome import FetchedImage
from zebra.curate.measurements import Measurement
from zebra.curate.pairs import PAIR_SCHEMA
from zebra.curate.pipeline import Stage
from zebra.curate.pools.scan_links import LINK_SCHEMA
from zebra.curate.rules import ReasonRule
from zebra.curate.scan import measure_image
from zebra.errors import BadSample

STAGE = "download"
DOWNLOAD_VERSION = 1
"""Changes when a value of a row may change."""
DOWNLOAD_SCHEMA = pa.schema(
    [
        *(field for field in PAIR_SCHEMA if field.name not in LINK_SCHEMA.names),
        ("source_sha256", pa.binary(32)),  # of the bytes that the server sent; the image may be resized
        ("download_reason", pa.string()),  # why there is no image; null if there is one
    ]
)
NUM_CONCURRENT_UNITS = 4
"""Units that are downloaded at a time, so that a slow server at the end of one does not delay the others."""


class Downloader:
    """Downloads the images of the pairs that remain; a unit of links has a folder of its own for them."""

    def __init__(self, config: FetchConfig, folder: Path, *, max_pixels: int) -> None:
        """Start nothing yet.

        Args:
            config: Limits, contact and opt-outs.
            folder: Where images are kept unless the config names a folder. An interrupted download continues unless a
                setting changes what is kept.
            max_pixels: Largest width × height to decode.
        """
        self._arguments = (config, folder, max_pixels)
        decisive = [config.shorter_side, config.max_bytes, min(config.max_pixels, max_pixels)]
        self._key = json.dumps([DOWNLOAD_VERSION, *decisive, sorted(config.ignore_signals), config.allow_private])
        self._folder = (
            folder if config.folder is None else Path(config.folder)
        ) / f"images-{sha256(self._key.encode()).hexdigest()[:16]}"
        self._max_pixels = max_pixels
        self._config = config
        self._fetcher: Fetcher | None = None
        self._connections = ExitStack()
        self._start = Lock()

    def __reduce__(self) -> tuple[Callable[..., "Downloader"], tuple[FetchConfig, Path, int]]:
        """Copy to another process, which has connections of its own."""
        return _copy_downloader, self._arguments

    def stages(self) -> list[Stage]:
        """Return the stages that download images and drop the pairs without one.

        Raises:
            ConfigError: Public hosts are allowed and there is no contact.
        """
        Fetcher(self._config)  # checks the config
        key = f"{self._key} again" if self._config.again else self._key
        return [
            Measurement(
                STAGE,
                key,
                ("url", "unit"),
                DOWNLOAD_SCHEMA,
                self.download,
                is_parallel=True,
                num_waiting=NUM_CONCURRENT_UNITS,
            ),
            ReasonRule(STAGE, "download_reason"),
        ]

    def folder(self, unit: str) -> Path:
        """Return where the images of a unit are."""
        return self._folder / unit

    def download(self, table: pa.Table) -> pa.Table:
        """Download the images of pairs of one unit, and decode them.

        Args:
            table: The columns `url` and `unit`.

        Returns:
            A row for each pair, by DOWNLOAD_SCHEMA.
        """
        if not len(table):
            return DOWNLOAD_SCHEMA.empty_table()
        (unit,) = table["unit"].unique().to_pylist()
        urls = table["url"].to_pylist()
        rows: dict[str, Future[dict[str, Any]]] = {}
        with ThreadPoolExecutor(usable_cores()) as pool:
            for image in self._started_fetcher().fetch(urls, self.folder(unit), again=self._config.again):
                rows[image.url] = pool.submit(self._measure, image, unit)
            return pa.Table.from_pylist([rows[url].result() for url in urls], DOWNLOAD_SCHEMA)

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()
        self._fetcher = None

    def _started_fetcher(self) -> Fetcher:
        with self._start:  # not before an image is needed: an interrupted run may have them all
            if self._fetcher is None:
                self._fetcher = self._connections.enter_context(Fetcher(self._config))
            return self._fetcher

    def _measure(self, image: FetchedImage, unit: str) -> dict[str, Any]:
        if image.status != "kept":
            return {"download_reason": image.reason}
        data = read_fetched(self.folder(unit), image)
        try:
            values = measure_image(data, image.url, max_pixels=self._max_pixels)
        except BadSample as bad:
            return {"download_reason": bad.reason}
        return values | {"source_sha256": image.source_sha256}


def _copy_downloader(config: FetchConfig, folder: Path, max_pixels: int) -> Downloader:
    return Downloader(config, folder, max_pixels=max_pixels)
