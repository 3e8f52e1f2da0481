"""Reading of a pool into tables of pairs, in units that a later run reuses."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zebra.atomic_io import atomic_write
from zebra.config.cores import usable_cores
from zebra.curate.pairs import PAIR_SCHEMA, make_uid
from zebra.curate.pools.shard_tables import ShardTables
from zebra.data.sources import Source, read_many
from zebra.engines import Engine, ThreadEngine
from zebra.errors import BadSample
from zebra.images.decode import decode_image
from zebra.images.exif_location import remove_location
from zebra.values import Record

SCAN_VERSION = 3
"""Changes when a value of a scanned row may change."""
SAMPLES_PER_UNIT = 2_048
SAMPLES_PER_READ = 64
"""Encoded images in memory at a time; those of a unit of camera photos would take gigabytes."""


def scan_pool(
    source: Source,
    folder: Path,
    *,
    step: int = 1,
    max_pixels: int,
    engine: Engine,
    callback: Callable[[int, int, str], None],
    tables: ShardTables | None = None,
) -> list[Path]:
    """Read and decode all samples of a pool once; return the Parquet files with their pairs, in order.

    Finished units are found by the digest of the pool, the setting and the version, so an interrupted scan continues.

    Args:
        folder: Where the files are; created if it does not exist.
        step: Read every step-th sample only.
        max_pixels: Largest width × height to decode.
        engine: Reads units on other machines. In this process one unit is read at a time, with all cores.
        callback: Called with the number of samples done, their total and the stage.
        tables: Further columns of the samples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    units = [
        range(start, min(start + SAMPLES_PER_UNIT * step, len(source)), step)
        for start in range(0, len(source), SAMPLES_PER_UNIT * step)
    ]
    scan = _ScanUnit(source, folder, max_pixels, 1 if engine.is_distributed else usable_cores(), tables)
    files: list[Path] = []
    callback(0, len(source), "reading")
    for path in (engine if engine.is_distributed else ThreadEngine(1)).map(scan, units):
        callback(units[len(files)].stop, len(source), "reading")
        files.append(path)
    return files


@dataclass(frozen=True, slots=True)
class _ScanUnit:
    """Writes the pairs of a unit to a file, unless it exists; returns the file."""

    source: Source
    folder: Path
    max_pixels: int
    num_threads: int
    tables: ShardTables | None

    def __call__(self, unit: range) -> Path:
        settings = [unit.start, unit.stop, unit.step, self.max_pixels, self.tables and self.tables.stamp]
        key = json.dumps([SCAN_VERSION, self.source.digest, *settings])
        path = self.folder / f"{unit.start:09d}-{sha256(key.encode()).hexdigest()[:16]}.parquet"
        if not path.is_file():
            with atomic_write(path, fsync=True) as partial_path, ThreadPoolExecutor(self.num_threads) as pool:
                table = scan_samples(self.source, unit, pool, self.max_pixels, self.tables)
                pq.write_table(table, partial_path)
        return path


def scan_samples(
    source: Source, indices: range, pool: ThreadPoolExecutor, max_pixels: int, tables: ShardTables | None
) -> pa.Table:
    """Return the pairs of some samples, by PAIR_SCHEMA and with the columns of the tables."""
    rows: list[dict[str, Any]] = []
    for start in range(0, len(indices), SAMPLES_PER_READ):
        batch = indices[start : start + SAMPLES_PER_READ]
        records = read_many(source, batch)
        measured = pool.map(partial(_measure_record, max_pixels=max_pixels), records)
        for index, record, image in zip(batch, records, measured, strict=True):
            sample_id = source.sample_id(index)
            if isinstance(image, BadSample):
                bad_row = {"uid": make_uid(sample_id, ""), "index": index, "id": sample_id}
                rows.append(bad_row | {"reason": image.reason, "detail": image.detail})
                continue
            assert isinstance(record, Record)
            rows.extend(_pair_rows(index, sample_id, record, image))
    return _add_columns(rows, tables) if tables else pa.Table.from_pylist(rows, PAIR_SCHEMA)


def _add_columns(rows: list[dict[str, Any]], tables: ShardTables) -> pa.Table:
    """Return rows with the columns of the tables; the first caption of a sample has the uid of its table."""
    uids, columns = tables.find([row["id"] for row in rows])
    seen: set[int] = set()
    for row, uid in zip(rows, uids, strict=True):
        if uid is not None and row["index"] not in seen:
            row["uid"] = uid
        seen.add(row["index"])
    table = pa.Table.from_pylist(rows, PAIR_SCHEMA)
    for name in columns.column_names:
        table = table.append_column(columns.schema.field(name), columns[name])
    return table


def _pair_rows(index: int, sample_id: str, record: Record, image: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for text in record.captions:
        yield {"uid": make_uid(sample_id, text), "index": index, "id": sample_id, "text": text} | image


def _measure_record(record: Record | BadSample, *, max_pixels: int) -> dict[str, Any] | BadSample:
    if isinstance(record, BadSample):
        return record
    if not record.captions:
        return BadSample("missing caption", record.id)
    try:
        return measure_image(record.image, record.id, max_pixels=max_pixels)
    except BadSample as bad:
        return bad


def measure_image(data: bytes, sample_id: str, *, max_pixels: int) -> dict[str, Any]:
    """Decode an image and return the values of a row that depend on it alone; raise BadSample if that fails."""
    image = decode_image(data, sample_id, max_pixels=max_pixels)
    gray = np.asarray(image.reduce(max(1, min(image.size) // 64)).convert("L"), np.float32)
    return {
        "sha256": sha256(data).digest(),
        "md5": md5(data, usedforsecurity=False).digest(),
        "num_bytes": len(data),
        "width": image.width,
        "height": image.height,
        "has_location": remove_location(data) is not data,
        "contrast": float(gray.std()),
    }
