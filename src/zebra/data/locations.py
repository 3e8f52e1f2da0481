"""Location and stamp of an image in a dataset, known before the image is read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zebra.values import Record

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Location:
    """Location of an image in a dataset."""

    key: str
    """Stable name of the image in its dataset."""
    stamp: str
    """Changes when the image or its metadata may have changed; computed without reading the image, like an ETag."""
    path: str
    """Path of the file, shard or table."""
    offset: int | None = None
    """Position in a tar shard, in bytes, as is `size`."""
    size: int | None = None


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image that is not read yet; it can be pickled."""

    location: Location
    load: Callable[[], Record]
    """Reads the image. The record has no captions if there are none; BadSample if it is unusable."""


def columns_stamp(columns: "pa.Schema") -> str:
    """Return the end of a stamp for extra columns, so that an image is read again when a column is added."""
    return f" {','.join(sorted(columns.names))}" if len(columns) else ""


def file_stamp(path: Path) -> str:
    """Return size and modification time of a file as text; "-" if it is missing."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # the error is reported when the file is read
        return "-"
    return f"{stat.st_size}:{stat.st_mtime_ns}"
