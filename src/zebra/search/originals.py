"""Read the original image of a row from its file, tar shard or table."""

import io
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from zebra.config.data import DataConfig
from zebra.data.remote.blobs import Blob, LocalBlob
from zebra.data.remote.remote_blob import open_remote_shards
from zebra.data.sources import Source, open_source
from zebra.errors import DataError, MissingExtra
from zebra.images.decode import decode_image, read_header
from zebra.images.formats import image_digest

LOCATION_COLUMNS = ("path", "offset", "size", "location", "digest", "thumbnail")
"""Columns that `read_original` needs; a store that was not written by zebra embed may lack `location`."""
MAX_IMAGE_BYTES = 256 << 20
"""Maximum size of an image file; a larger file is not the image that was embedded."""
PREVIEW_JPEG_QUALITY = 80


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
    stored: bytes | None = row["thumbnail"]
    try:
        if stored and max(read_header(stored, "a thumbnail").size) >= max_side:
            return stored
        data = read_original(row)
        return stored if data is None else _resize_to_jpeg(data, max_side)
    except DataError:  # the stored thumbnail or the original is not an image
        return stored


def _resize_to_jpeg(data: bytes, max_side: int) -> bytes:
    image = decode_image(data, "an image")
    image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=PREVIEW_JPEG_QUALITY)
    return buffer.getvalue()


def _iter_candidates(row: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield bytes that may be the image; the `scan` methods in `zebra.data` set the columns of each layout."""
    path, offset, size = row["path"], row["offset"], row["size"]
    if size is not None and size > MAX_IMAGE_BYTES:
        return
    if offset is not None and size is not None:
        blob = _open_remote_blob(path) if "://" in path else LocalBlob(Path(path))
        yield blob.start_read([(offset, size)])()[0]
        return
    file = Path(path)
    row_number = str(row.get("location") or "").rpartition(":")[2]
    if row_number.isdecimal() and (file.is_dir() or not file.exists()):  # a saved dataset, or PATH/SPLIT of one
        yield _open_source(path).read(int(row_number)).image
    elif file.suffix.lower() == ".parquet" and row_number.isdecimal():
        yield from _iter_parquet_bytes(file, int(row_number))
    elif file.is_file() and file.stat().st_size <= MAX_IMAGE_BYTES:
        yield file.read_bytes()


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
