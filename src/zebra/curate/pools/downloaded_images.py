"""The downloaded images of a pool of links, as a source."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Lock

import pyarrow.parquet as pq

from zebra.curate.fetch.attempts import AttemptLog, read_fetched
from zebra.curate.fetch.outcome import FetchedImage
from zebra.curate.pools.scan_links import LinkUnit
from zebra.data.ignored import Ignored
from zebra.errors import BadSample
from zebra.values import Record

MAX_OPEN_UNITS = 8


class DownloadedImages:
    """Images by the column `index` of their pairs; the records have no captions.

    Unlike in other sources, the indices are not consecutive.
    """

    def __init__(self, name: str, ignored: tuple[Ignored, ...], find_folder: Callable[[str], Path]) -> None:
        """Prepare a source; `set_units` follows when the links are read.

        Args:
            name: Of the pool.
            ignored: Files that have no links.
            find_folder: Returns where the images of a unit are.
        """
        self.name, self.ignored = name, ignored
        self._find_folder = find_folder
        self._units: Sequence[LinkUnit] = ()
        self._lock = Lock()
        self._read_unit = lru_cache(MAX_OPEN_UNITS)(self._read_outcomes)

    def __reduce__(self) -> tuple[Callable[..., "DownloadedImages"], tuple[object, ...]]:
        """Copy to another process, which reads the records of its own."""
        return _copy_images, (self.name, self.ignored, self._find_folder, self._units)

    def set_units(self, units: Sequence[LinkUnit]) -> None:
        """Set the units of the pool, in order."""
        self._units = units
        self._read_unit.cache_clear()

    @property
    def digest(self) -> str:
        """SHA-256 in hex over all links."""
        return sha256("\n".join(unit.sha256 for unit in self._units).encode()).hexdigest()

    def __len__(self) -> int:
        """Return the number of links, usable or not."""
        return sum(unit.num_samples for unit in self._units)

    def sample_id(self, index: int) -> str:
        """Return the address of an image."""
        return self._find(index).url

    def read(self, index: int) -> Record:
        """Return a downloaded image; raise BadSample if there is none."""
        image = self._find(index)
        if image.status != "kept":
            raise BadSample(image.reason or "not downloaded", image.url, image.detail)
        return Record(image.url, read_fetched(self._find_folder(self._unit_name(index)), image))

    def _find(self, index: int) -> FetchedImage:
        with self._lock:  # the record of a unit has one reader at a time
            outcomes = self._read_unit(self._unit_number(index))
        if index not in outcomes:
            raise BadSample("not downloaded", f"{self.name}:{index}")
        return outcomes[index]

    def _unit_number(self, index: int) -> int:
        return bisect_right(self._units, index, key=lambda unit: unit.first_index) - 1

    def _unit_name(self, index: int) -> str:
        return self._units[self._unit_number(index)].name

    def _read_outcomes(self, number: int) -> Mapping[int, FetchedImage]:
        unit = self._units[number]
        table = pq.read_table(unit.path, columns=["index", "url"])
        log = AttemptLog(self._find_folder(unit.name))
        try:
            outcomes = {url: log.get(url) for url in table["url"].unique().to_pylist() if url is not None}
        finally:
            log.close()
        rows = zip(table["index"].to_pylist(), table["url"].to_pylist(), strict=True)
        return {index: outcome for index, url in rows if (outcome := outcomes.get(url))}


def _copy_images(
    name: str, ignored: tuple[Ignored, ...], find_folder: Callable[[str], Path], units: Sequence[LinkUnit]
) -> DownloadedImages:
    images = DownloadedImages(name, ignored, find_folder)
    images.set_units(units)
    return images
