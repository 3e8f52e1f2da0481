"""Data that passes through the stages of embedding."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ImageContent:
    """Image bytes and metadata of one sample."""

    image_bytes: bytes
    """Encoded image."""
    captions: tuple[str, ...] = ()
    label: int | None = None
    extra_columns: Mapping[str, Any] = field(default_factory=dict)
    """Extra columns of a table."""


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
    load: Callable[[], ImageContent]
    """Reads the image; raises BadSample if it is unusable."""


class EmbedSource(Protocol):
    """All images of one dataset."""

    @property
    def name(self) -> str:
        """Name of the dataset, which is stored with every row."""

    @property
    def extra_columns(self) -> pa.Schema:
        """Schema of `ImageContent.extra_columns`."""

    def __len__(self) -> int:
        """Return the number of images, usable or not."""

    def __iter__(self) -> Iterator[ImageRef]:
        """Yield the images in a stable order."""


@dataclass(frozen=True, slots=True)
class PreprocessedImage:
    """A decoded image at the size of the model's input."""

    pixels_3HW: NDArray[np.uint8]
    width: int
    """Size of the original, in pixels."""
    height: int
    thumbnail: bytes | None
    """JPEG."""


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Everything that the image bytes determine: images with equal bytes have equal features."""

    width: int
    height: int
    thumbnail: bytes | None
    vector_E: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class StoreRow:
    """A row ready to be written."""

    location: Location
    content: ImageContent
    """Metadata; the image bytes are dropped."""
    digest: str
    """SHA-256 of the image bytes, in hex."""
    features: ImageFeatures


def file_stamp(path: Path) -> str:
    """Return size and modification time of a file as text; "-" if it is missing."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # the error is reported when the file is read
        return "-"
    return f"{stat.st_size}:{stat.st_mtime_ns}"
