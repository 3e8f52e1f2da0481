"""A row of a store in, the picture it is about out: from its file, its tar shard or its table, wherever that lies."""

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
"""The columns that tell where a picture is; a store made by hand may lack `location`."""
MAX_IMAGE_BYTES = 256 << 20
"""Bytes of a picture; what is larger is something else that took its place."""
PREVIEW_JPEG_QUALITY = 80


def read_original(row: Mapping[str, Any]) -> bytes | None:
    """Return the picture's bytes as they were embedded; None if they are gone or have changed.

    Args:
        row: With the columns of `WHERE`.
    """
    try:
        for data in _iter_candidates(row):
            if image_digest(data) == row["digest"]:
                return data
    except (
        OSError,
        ValueError,
        DataError,
        MissingExtra,
        pa.ArrowException,
    ):  # gone, out of reach, or not what it was
        return None
    return None


def read_thumbnail(row: Mapping[str, Any], max_side: int) -> bytes | None:
    """Return a JPEG of a picture, or the WebP a store may keep; None if there is none any more.

    The store's own is taken if it is large enough, or if there is no other. It may be smaller than asked for.

    Args:
        row: With the columns of `WHERE`.
        max_side: Of the square it fits into, in pixels.
    """
    kept: bytes | None = row["thumbnail"]
    try:
        if kept and max(read_header(kept, "a thumbnail").size) >= max_side:
            return kept
        data = read_original(row)
        return kept if data is None else _resize_to_jpeg(data, max_side)
    except DataError:  # no picture after all
        return kept


def _resize_to_jpeg(data: bytes, max_side: int) -> bytes:
    image = decode_image(data, "a picture")
    image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=PREVIEW_JPEG_QUALITY)
    return buffer.getvalue()


def _iter_candidates(row: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield what may be the picture; `zebra.embed.sources` says what the columns mean for each layout."""
    path, offset, size = row["path"], row["offset"], row["size"]
    if size is not None and size > MAX_IMAGE_BYTES:
        return
    if offset is not None and size is not None:
        blob = _open_remote_blob(path) if "://" in path else LocalBlob(Path(path))
        yield blob.start_read([(offset, size)])()[0]
        return
    file = Path(path)
    number = str(row.get("location") or "").rpartition(":")[2]
    if file.is_dir() and number.isdecimal():
        yield _open_source(path).read(int(number)).image
    elif file.suffix.lower() == ".parquet" and number.isdecimal():
        yield from _iter_parquet_bytes(file, int(number))
    elif file.is_file() and file.stat().st_size <= MAX_IMAGE_BYTES:
        yield file.read_bytes()


@lru_cache(maxsize=64)
def _open_remote_blob(url: str) -> Blob:
    return open_remote_shards(url, [url], 0)[0]


@lru_cache(maxsize=4)
def _open_source(path: str) -> Source:
    return open_source(path, DataConfig())


def _iter_parquet_bytes(path: Path, row_number: int) -> Iterator[bytes]:
    """Yield all bytes that a row of a Parquet file holds; its digest tells which are the picture's.

    Args:
        row_number: Of the row, from 1.
    """
    first = 1
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row_number < first + rows:
                held = [field.name for field in file.schema_arrow if _may_hold_bytes(field.type)]
                row = file.read_row_group(group, columns=held).slice(row_number - first, 1).to_pylist()[0]
                for cell in row.values():
                    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
                    if isinstance(data, bytes):
                        yield data
                return
            first += rows


def _may_hold_bytes(type: pa.DataType) -> bool:
    return any(kind(type) for kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_struct))
