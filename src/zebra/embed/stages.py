"""Stages of embedding: read, preprocess, encode, convert to an Arrow table.

The stages keep no state and can run in any thread or process; `pipeline.py` and `ray.py` chain them.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from zebra.data.locations import ImageRef
from zebra.embed.values import ImageFeatures, PreprocessedImage, StoreRow
from zebra.errors import BadSample, DataError
from zebra.images.decode import convert_to_rgb, decode_image, read_header
from zebra.images.jpeg import decode_scaled
from zebra.images.orientation import read_orientation
from zebra.images.preprocess import Preprocess
from zebra.values import Record

if TYPE_CHECKING:
    from torch import Tensor

    from zebra.images.tensors import Pixels

EMBED_COLUMNS = pa.schema(
    {
        "label": pa.int64(),  # class index
        "source": pa.string(),  # dataset: folder, table or shards
        "location": pa.string(),  # stable name of the image in its dataset
        "stamp": pa.string(),  # changes when the image or its metadata may have changed
    }
)
"""Columns of the stores that `zebra embed` writes, in addition to those of every store."""
THUMBNAIL_JPEG_QUALITY = 80
EncodePixels: TypeAlias = "Callable[[Pixels], Tensor]"
"""Preprocessed images → unit vectors, float32 [B, E]."""


def read_record(image_ref: ImageRef) -> Record:
    """Read an image; BadSample if the image or its metadata is missing or unreadable."""
    try:
        return image_ref.load()
    except BadSample:
        raise
    except DataError as error:  # a shard that changed or cannot be reached
        raise BadSample("unreadable file", image_ref.location.key, str(error)) from error


@dataclass(frozen=True, slots=True)
class ImagePreprocessor:
    """Converts an encoded image to the input of a model, with a thumbnail."""

    preprocess: Preprocess
    fast_decode: bool = False
    """Decode JPEGs at a reduced size that still covers the model's input."""
    thumbnail_size: int = 96
    """Longer side in pixels; 0 disables thumbnails."""
    max_pixels: int = 89_478_485

    def __call__(self, data: bytes, location: str) -> PreprocessedImage:
        """Decode, resize and crop; BadSample if the image is unusable."""
        try:
            image, (width, height) = self._decode(data, location)
            thumbnail = _encode_thumbnail(image, self.thumbnail_size) if self.thumbnail_size else None
            return PreprocessedImage(self.preprocess.resize_and_crop(image), width, height, thumbnail)
        except BadSample:
            raise
        except Exception as error:  # decoders may raise anything on untrusted bytes
            raise BadSample("damaged image", location, f"{type(error).__name__}: {error}") from error

    def _decode(self, data: bytes, location: str) -> tuple[Image.Image, tuple[int, int]]:
        if self.fast_decode:
            header = read_header(
                data, location, max_pixels=self.max_pixels, max_aspect_ratio=self.preprocess.max_aspect_ratio
            )
            if header.format == "JPEG" and header.mode in ("RGB", "L") and read_orientation(header) == 1:
                size: tuple[int, int] = header.size
                pixels_HW3, _ = decode_scaled(
                    data,
                    location,
                    self.preprocess.min_shorter_side,
                    lambda width, height: (0, 0, width, height),
                    max_pixels=self.max_pixels,
                    max_aspect_ratio=self.preprocess.max_aspect_ratio,
                )
                return Image.fromarray(pixels_HW3), size
        image = decode_image(
            data,
            location,
            mode=self.preprocess.decode,
            max_pixels=self.max_pixels,
            max_aspect_ratio=self.preprocess.max_aspect_ratio,
        )
        return image, image.size


def _encode_thumbnail(image: Image.Image, max_side: int) -> bytes:
    scale = min(1.0, max_side / max(image.size))
    width, height = (max(1, round(length * scale)) for length in image.size)
    thumbnail = convert_to_rgb(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0))
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=THUMBNAIL_JPEG_QUALITY)
    return buffer.getvalue()


def encode_batch(images: Sequence[PreprocessedImage], encode_pixels: EncodePixels) -> list[ImageFeatures]:
    """Embed a batch of images."""
    from zebra.images.tensors import stack_pixels

    vectors_BE: NDArray[np.float32] = encode_pixels(stack_pixels([image.pixels_3HW for image in images])).numpy()
    return [
        ImageFeatures(image.width, image.height, image.thumbnail, vector_E)
        for image, vector_E in zip(images, vectors_BE, strict=True)
    ]


def make_row_id(digest: str, location_key: str) -> str:
    """Return the id of a row; equal images at different locations get different ids."""
    return sha256(f"{digest} {location_key}".encode("utf-8", "surrogateescape")).hexdigest()


def rows_to_table(rows: Sequence[StoreRow], schema: pa.Schema, dataset_name: str) -> pa.Table:
    """Convert rows to the Arrow table that a store accepts.

    Args:
        schema: Schema of the store.
        dataset_name: Value of the column `source`.
    """
    width = schema.field("vector").type.list_size
    vectors_NE = np.stack([row.features.vector_E for row in rows]).astype(np.float32)
    values = {
        "id": [make_row_id(row.digest, row.location.key) for row in rows],
        "digest": [row.digest for row in rows],
        "path": [row.location.path for row in rows],
        "offset": [row.location.offset for row in rows],
        "size": [row.location.size for row in rows],
        "caption": [next(iter(row.record.captions), None) for row in rows],
        "other_captions": [list(row.record.captions[1:]) or None for row in rows],
        "width": [row.features.width for row in rows],
        "height": [row.features.height for row in rows],
        "thumbnail": [row.features.thumbnail for row in rows],
        "label": [row.record.label for row in rows],
        "source": [dataset_name for _ in rows],
        "location": [row.location.key for row in rows],
        "stamp": [row.location.stamp for row in rows],
    }
    extra = {name: [row.record.columns[name] for row in rows] for name in rows[0].record.columns}
    columns = {name: pa.array(cells, schema.field(name).type) for name, cells in (values | extra).items()}
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), width)
    return pa.table(columns)
