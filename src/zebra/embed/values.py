"""What passes through the stages: Picture → Content → Prepared → Look → Row."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ImageContent:
    """What was read of one picture."""

    image_bytes: bytes
    """The encoded file."""
    captions: tuple[str, ...] = ()
    label: int | None = None
    extra_columns: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of a table."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a picture is."""

    key: str
    """Names one picture of the data, and stays the same from run to run."""
    stamp: str
    """Changes when the picture, or what is said of it, may have changed; found out without reading either."""
    path: str
    """Of the file, the shard or the table that holds it."""
    offset: int | None = None
    """In a tar shard; with `size`, in bytes."""
    size: int | None = None


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One picture of the data, not read yet; it can be sent to another process."""

    location: Location
    load: Callable[[], ImageContent]
    """Reads it; BadSample if it cannot be used."""


class EmbedSource(Protocol):
    """All pictures of one data set."""

    @property
    def name(self) -> str:
        """Of the data set: a row remembers where it came from."""

    @property
    def extra_columns(self) -> pa.Schema:
        """What `Content.columns` holds."""

    def __len__(self) -> int:
        """Return how many there are, usable or not."""

    def __iter__(self) -> Iterator[ImageRef]:
        """Find them one by one, in an order that does not change by itself."""


@dataclass(frozen=True, slots=True)
class PreprocessedImage:
    """A decoded picture, ready to be embedded."""

    pixels_3HW: NDArray[np.uint8]
    width: int
    """Of the original, in pixels."""
    height: int
    thumbnail: bytes | None
    """A small JPEG."""


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the bytes of a picture alone decide: equal bytes look the same wherever they lie."""

    width: int
    height: int
    thumbnail: bytes | None
    vector_E: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class StoreRow:
    """One picture, ready to be written."""

    location: Location
    content: ImageContent
    """Without the image, which is no longer needed."""
    digest: str
    """sha256 of the image's bytes, in hex."""
    features: ImageFeatures


def file_stamp(path: Path) -> str:
    """Tell a changed file from an unchanged one by size and time, without reading it."""
    try:
        state = path.stat()
    except (OSError, ValueError):  # it is found out when it is read
        return "-"
    return f"{state.st_size}:{state.st_mtime_ns}"
