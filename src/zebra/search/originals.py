"""Read the original image of a row from its file, tar shard or table."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.config.data import DataConfig
from zebra.data.remote.blobs import Blob, LocalBlob
from zebra.data.remote.remote_blob import open_remote_shards
from zebra.data.sources import Source, open_source
from zebra.data.video_frames import VIDEO_SUFFIXES, VIDEO_TIME_SEPARATOR, parse_time, read_frame
from zebra.errors import DataError, MissingExtra
from zebra.images.decode import read_header
from zebra.images.formats import image_digest
from zebra.images.thumbnail import resize_to_jpeg

LOCATION_COLUMNS = ("path", "offset", "size", "location", "digest", "thumbnail")
"""Columns that `read_original` needs; a store that was not written by zebra embed may lack `location`."""
ESCAPED_BYTE_PATTERN = re.compile(r"\\u(dc[89a-f][0-9a-f])")
"""A byte as `zebra.errors.escape_unencodable` writes it."""
MAX_IMAGE_BYTES = 256 << 20
"""Maximum size of an image file; a larger file is not the image that was embedded."""


def read_original(row: Mapping[str, Any]) -> bytes | None:
    """Return the image bytes that were embedded; None if they are missing or have changed.

    Args:
        row: A row with LOCATION_COLUMNS.
    """
    try:
        for data in _iter_candidates(row):
            if image_digest(data) == row["digest"]:
                return data
    except (OSError, ValueError, DataError, MissingExtra, pa.ArrowException):  # missing, unreachable, or another file
        return None
    return None


def read_thumbnail(row: Mapping[str, Any], max_side: int) -> bytes | None:
    """Return a thumbnail as JPEG, or as stored; None if there is neither a stored one nor the original.

    The stored thumbnail is used if it is large enough or the original is missing. It may be smaller than requested.

    Args:
        row: A row with LOCATION_COLUMNS.
        max_side: Maximum width and height in pixels.
    """
    stored, original = read_thumbnail_source(row, max_side)
    if original is None:
        return stored
    try:
        return resize_to_jpeg(original, max_side)
    except DataError:  # the original is not an image
        return stored


def read_thumbnail_source(row: Mapping[str, Any], max_side: int) -> tuple[bytes | None, bytes | None]:
    """Return the stored thumbnail, and the original if the stored one is missing or smaller than `max_side`."""
    stored: bytes | None = row["thumbnail"]
    try:
        if stored and max(read_header(stored, "a thumbnail").size) >= max_side:
            return stored, None
    except DataError:  # the stored thumbnail is not an image
        return None, read_original(row)
    return stored, read_original(row)


def _iter_candidates(row: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield bytes that may be the image; the `scan` methods in `zebra.data` set the columns of each layout."""
    path, offset, size = row["path"], row["offset"], row["size"]
    if size is not None and size > MAX_IMAGE_BYTES:
        return
    if offset is not None and size is not None:
        blob = _open_remote_blob(path) if "://" in path else LocalBlob(_find_file(path))
        yield blob.start_read([(offset, size)])()[0]
        return
    file = _find_file(path)
    if file.suffix.lower() in VIDEO_SUFFIXES:
        frame = read_frame(file, parse_time(str(row.get("location") or "").rpartition(VIDEO_TIME_SEPARATOR)[2]))
        yield from [frame] if frame else []
        return
    row_number = str(row.get("location") or "").rpartition(":")[2]
    if row_number.isdecimal() and (file.is_dir() or not file.exists()):  # a saved dataset, or PATH/SPLIT of one
        yield _open_source(path).read(int(row_number)).image
    elif file.suffix.lower() == ".parquet" and row_number.isdecimal():
        yield from _iter_parquet_bytes(file, int(row_number))
    elif file.is_file() and file.stat().st_size <= MAX_IMAGE_BYTES:
        yield file.read_bytes()


def _find_file(path: str) -> Path:
    """Return a path of a store; bytes of its name that are not UTF-8 are escaped there."""
    file = Path(path)
    return file if file.exists() else Path(ESCAPED_BYTE_PATTERN.sub(lambda match: chr(int(match[1], 16)), path))


@lru_cache(maxsize=64)
def _open_remote_blob(url: str) -> Blob:
    return open_remote_shards(url, [url], 0)[0]


@lru_cache(maxsize=4)
def _open_source(path: str) -> Source:
    return open_source(path, DataConfig())


def _iter_parquet_bytes(path: Path, row_number: int) -> Iterator[bytes]:
    """Yield all bytes values in a row of a Parquet file; the digest identifies the image among them.

    Args:
        row_number: Number of the row, from 1.
    """
    first = 1
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            num_rows = file.metadata.row_group(group).num_rows
            if row_number < first + num_rows:
                columns = [field.name for field in file.schema_arrow if _may_hold_bytes(field.type)]
                row = file.read_row_group(group, columns=columns).slice(row_number - first, 1).to_pylist()[0]
                for cell in row.values():
                    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
                    if isinstance(data, bytes):
                        yield data
                return
            first += num_rows


def _may_hold_bytes(type: pa.DataType) -> bool:
    return any(is_type(type) for is_type in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_struct))
