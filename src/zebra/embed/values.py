"""What passes through the stages: Picture → Content → Prepared → Look → Row."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Content:
    """What was read of one picture."""

    image: bytes
    """The encoded file."""
    captions: tuple[str, ...] = ()
    label: int | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of a table."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a picture is."""

    location: str
    """Names one picture of the data, and stays the same from run to run."""
    stamp: str
    """Changes when the picture, or what is said of it, may have changed; found out without reading either."""
    path: str
    """Of the file, the shard or the table that holds it."""
    offset: int | None = None
    """In a tar shard; with `size`, in bytes."""
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the data, not read yet; it can be sent to another process."""

    spot: Spot
    load: Callable[[], Content]
    """Reads it; BadSample if it cannot be used."""


class Pictures(Protocol):
    """All pictures of one data set."""

    @property
    def name(self) -> str:
        """Of the data set: a row remembers where it came from."""

    @property
    def columns(self) -> pa.Schema:
        """What `Content.columns` holds."""

    def __len__(self) -> int:
        """Return how many there are, usable or not."""

    def __iter__(self) -> Iterator[Picture]:
        """Find them one by one, in an order that does not change by itself."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A decoded picture, ready to be embedded."""

    pixels_3HW: NDArray[np.uint8]
    width: int
    """Of the original, in pixels."""
    height: int
    thumbnail: bytes | None
    """A small JPEG."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the bytes of a picture alone decide: equal bytes look the same wherever they lie."""

    width: int
    height: int
    thumbnail: bytes | None
    vector_E: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """One picture, ready to be written."""

    spot: Spot
    content: Content
    """Without the image, which is no longer needed."""
    digest: str
    """sha256 of the image's bytes, in hex."""
    look: Look


def state_of(path: Path) -> str:
    """Tell a changed file from an unchanged one by size and time, without reading it."""
    try:
        state = path.stat()
    except (OSError, ValueError):  # it is found out when it is read
        return "-"
    return f"{state.st_size}:{state.st_mtime_ns}"
