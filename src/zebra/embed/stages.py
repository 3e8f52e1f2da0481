"""The stages of embedding as functions of values: read, prepare, encode, tabulate; whoever runs them passes them on.

They keep nothing between calls and can run in any thread or process; one machine chains them in `pipeline.py`.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zebra.embed.values import Content, Look, Picture, Prepared, Row
from zebra.errors import BadSample, DataError
from zebra.images.decode import decode, orientation, read_header, rgb_on_white
from zebra.images.jpeg import decode_scaled
from zebra.images.preprocess import Preprocess

OWN_COLUMNS = pa.schema(
    {
        "label": pa.int64(),  # class index
        "source": pa.string(),  # the data set: folder, table or shards
        "location": pa.string(),  # of the picture: names it, from run to run
        "stamp": pa.string(),  # changes when the picture, or what is said of it, may have changed
    }
)
"""What the rows of `zebra embed` have beside those of every store."""
JPEG_QUALITY = 80
Encode = Callable[[Tensor], Tensor]
"""uint8 [B, 3, H, W] → unit vectors, float32 [B, E]."""


def read(picture: Picture) -> Content:
    """Read a picture; BadSample if it is gone, cannot be read, or what is said of it cannot."""
    try:
        return picture.load()
    except BadSample:
        raise
    except DataError as error:  # a shard that changed or cannot be reached any more
        raise BadSample("unreadable file", picture.spot.location, str(error)) from error


@dataclass(frozen=True, slots=True)
class Prepare:
    """Turns an encoded picture into the input of a model."""

    preprocess: Preprocess
    fast: bool = False
    """Decode JPEGs no finer than the model needs."""
    thumbnail: int = 96
    """Longer side, in pixels; 0 makes none."""
    max_pixels: int = 89_478_485

    def __call__(self, data: bytes, where: str) -> Prepared:
        """Decode, resize and crop; BadSample if it is no picture that can be used."""
        try:
            image, (width, height) = self._decode(data, where)
            thumbnail = _thumbnail(image, self.thumbnail) if self.thumbnail else None
            return Prepared(self.preprocess.pixels(image), width, height, thumbnail)
        except BadSample:
            raise
        except Exception as error:  # whatever else a decoder does with bytes of unknown origin
            raise BadSample("damaged image", where, f"{type(error).__name__}: {error}") from error

    def _decode(self, data: bytes, where: str) -> tuple[Image.Image, tuple[int, int]]:
        if self.fast:
            header = read_header(data, where, max_pixels=self.max_pixels)
            if header.format == "JPEG" and header.mode in ("RGB", "L") and orientation(header) == 1:
                whole: tuple[int, int] = header.size
                pixels_HW3, _ = decode_scaled(
                    data,
                    where,
                    self.preprocess.image_size,
                    lambda width, height: (0, 0, width, height),
                    max_pixels=self.max_pixels,
                )
                return Image.fromarray(pixels_HW3), whole
        image = decode(data, where, mode=self.preprocess.decode, max_pixels=self.max_pixels)
        return image, image.size


def _thumbnail(image: Image.Image, side: int) -> bytes:
    scale = min(1.0, side / max(image.size))
    width, height = (max(1, round(length * scale)) for length in image.size)
    small = rgb_on_white(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def encode(prepared: Sequence[Prepared], run: Encode) -> list[Look]:
    """Embed pictures together."""
    pixels_B3HW = torch.from_numpy(np.stack([one.pixels_3HW for one in prepared]))
    vectors_BE: NDArray[np.float32] = run(pixels_B3HW).numpy()
    return [
        Look(one.width, one.height, one.thumbnail, vector_E)
        for one, vector_E in zip(prepared, vectors_BE, strict=True)
    ]


def digest_of(data: bytes) -> str:
    """Return the sha256 of a picture's bytes, in hex."""
    return sha256(data).hexdigest()


def identify(digest: str, location: str) -> str:
    """Return the id of a row: equal pictures at different places stay apart."""
    return sha256(f"{digest} {location}".encode("utf-8", "surrogateescape")).hexdigest()


def tabulate(rows: Sequence[Row], schema: pa.Schema, source: str) -> pa.Table:
    """Make the table that a store takes.

    Args:
        schema: Of the store.
        source: Name of the data set.
    """
    width = schema.field("vector").type.list_size
    vectors_NE = np.stack([row.look.vector_E for row in rows]).astype(np.float32)
    said = {
        "id": [identify(row.digest, row.spot.location) for row in rows],
        "digest": [row.digest for row in rows],
        "path": [row.spot.path for row in rows],
        "offset": [row.spot.offset for row in rows],
        "size": [row.spot.size for row in rows],
        "caption": [next(iter(row.content.captions), None) for row in rows],
        "other_captions": [list(row.content.captions[1:]) or None for row in rows],
        "width": [row.look.width for row in rows],
        "height": [row.look.height for row in rows],
        "thumbnail": [row.look.thumbnail for row in rows],
        "label": [row.content.label for row in rows],
        "source": [source for _ in rows],
        "location": [row.spot.location for row in rows],
        "stamp": [row.spot.stamp for row in rows],
    }
    further = {name: [row.content.columns[name] for row in rows] for name in rows[0].content.columns}
    columns = {name: pa.array(cells, schema.field(name).type) for name, cells in (said | further).items()}
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), width)
    return pa.table(columns)
