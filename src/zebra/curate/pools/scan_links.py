"""Read the files of a pool of links once, into units of pairs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.atomic_io import atomic_write
from zebra.curate.pairs import UID_BYTES, make_uid
from zebra.curate.pools.link_pool import LinkFile, LinkPool, require_unchanged
from zebra.curate.pools.records import BadRecord, ImageLink
from zebra.data.columns import validate_caption, validate_text
from zebra.data.ignored import Ignored, IgnoredCounter
from zebra.engines import Engine, ThreadEngine
from zebra.errors import BadSample, escape_unencodable

LINKS_VERSION = 1
"""Changes when a value of a row may change."""
FILE_NUMBER_BITS = 32
"""The index of a sample is its number in the file, and above these bits the number of the file."""
LINK_SCHEMA = pa.schema(
    {
        "uid": pa.binary(UID_BYTES),
        "index": pa.int64(),  # position of the sample in the pool
        "id": pa.string(),  # the address, or where an unusable record is
        "text": pa.string(),
        "url": pa.string(),
        "page": pa.string(),  # address of the page that has the image
        "unit": pa.string(),  # name of the unit; its images are downloaded together
        "reason": pa.string(),  # why the record cannot be used; null if it can
        "detail": pa.string(),
    }
)


@dataclass(frozen=True, slots=True)
class LinkUnit:
    """A Parquet file with some of the pairs."""

    name: str
    """What the column `unit` has: it does not depend on the contents of the file."""
    path: Path
    first_index: int
    num_samples: int
    sha256: str
    """Digest of the Parquet file, in hex."""


def scan_links(
    pool: LinkPool,
    folder: Path,
    callback: Callable[[int, int, str], None],
    engine: Engine,
    max_samples: int | None = None,
) -> tuple[list[LinkUnit], tuple[Ignored, ...]]:
    """Read all files of a pool once; return the units with their pairs, in order, and what is no pair, by reason.

    A list of its units is written behind each file, so that an interrupted scan continues with the file it was at.

    Args:
        folder: Where the units are; created if it does not exist.
        callback: Called with the number of files done, their total and the stage.
        engine: Reads files on other machines; in this process one file is read at a time.
        max_samples: Samples to read from each file; all by default.

    Raises:
        DataError: A file cannot be read, or changes while it is read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    units: list[LinkUnit] = []
    unused = IgnoredCounter()
    scan = partial(_list_units, pool, folder, max_samples)
    callback(0, len(pool.files), "reading")
    numbers = range(len(pool.files))
    for number, listing in zip(
        numbers, (engine if engine.is_distributed else ThreadEngine(1)).map(scan, numbers), strict=True
    ):
        document = json.loads(listing.read_text())
        units += [LinkUnit(**unit | {"path": folder / unit["path"]}) for unit in document["units"]]
        unused.extend(Ignored(**entry) for entry in document["unused"])
        callback(number + 1, len(pool.files), "reading")
    return units, unused.entries()


def _list_units(pool: LinkPool, folder: Path, max_samples: int | None, number: int) -> Path:
    """Scan a file of the pool unless its list of units exists; return the list."""
    file = pool.files[number]
    key = json.dumps([LINKS_VERSION, number, file.stamp, str(file.columns), str(pool.schema), max_samples])
    name = f"links-{number:06d}-{sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
    listing = folder / f"{name}.json"
    if not listing.is_file():
        with atomic_write(listing, fsync=True) as partial_path:
            partial_path.write_text(json.dumps(_scan_file(pool, file, folder, name, number, max_samples)))
    return listing


def _scan_file(
    pool: LinkPool, file: LinkFile, folder: Path, name: str, number: int, max_samples: int | None
) -> dict[str, object]:
    stamp, unused, num_samples = file.stamp, IgnoredCounter(), 0
    units: list[dict[str, object]] = []
    for batch, others in pool.read(file, unused):
        samples = batch if max_samples is None else batch[: max_samples - num_samples]
        unit = f"{number:06d}-{len(units):06d}"
        first_index = (number << FILE_NUMBER_BITS) + num_samples
        path = folder / f"{name}-{len(units):06d}.parquet"
        with atomic_write(path, fsync=True) as partial_path:
            pq.write_table(make_table(samples, others, first_index, unit), partial_path)
            digest = sha256(partial_path.read_bytes()).hexdigest()
        units.append(asdict(LinkUnit(unit, path, first_index, len(samples), digest)) | {"path": path.name})
        num_samples += len(samples)
        if num_samples == max_samples:
            break
    require_unchanged(file, stamp)
    return {"units": units, "unused": [asdict(entry) for entry in unused.entries()]}


def make_table(samples: Sequence[ImageLink | BadRecord], others: pa.Table, first_index: int, unit: str) -> pa.Table:
    """Return the pairs of samples, by LINK_SCHEMA and with the other columns of each sample."""
    rows: list[tuple[object, ...]] = []
    positions: list[int] = []
    for position, sample in enumerate(samples):
        for row in _make_rows(sample, first_index + position, unit):
            rows.append(row)
            positions.append(position)
    columns = zip(*rows, strict=True) if rows else [[]] * len(LINK_SCHEMA)
    table = pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, LINK_SCHEMA, strict=True)], LINK_SCHEMA
    )
    for field, column in zip(others.schema, others.itercolumns(), strict=True):
        table = table.append_column(field, column.take(pa.array(positions, pa.int64())))
    return table


def _make_rows(sample: ImageLink | BadRecord, index: int, unit: str) -> list[tuple[object, ...]]:
    if isinstance(sample, BadRecord):
        place, detail = escape_unencodable(sample.place), escape_unencodable(sample.detail)
        return [(make_uid(place, ""), index, place, None, None, None, unit, sample.reason, detail)]
    rows: list[tuple[object, ...]] = []
    for number, text in enumerate(sample.texts):
        try:
            url = validate_text(sample.url, "address")
            uid = sample.uid if sample.uid is not None and number == 0 else make_uid(url, text)
            rows.append((uid, index, url, validate_caption(text), url, sample.page, unit, None, None))
        except BadSample as bad:
            url = escape_unencodable(sample.url)
            rows.append((make_uid(url, text), index, url, None, None, None, unit, bad.reason, bad.detail))
    return rows
