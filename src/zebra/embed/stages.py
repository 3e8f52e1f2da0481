"""Stages of embedding after `preprocessing`: encode, convert to an Arrow table.

The stages keep no state and can run in any thread or process; `pipeline.py` and `ray.py` chain them.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.embed.values import ImageFeatures, PreprocessedImage, StoreRow

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
EncodePixels: TypeAlias = "Callable[[Pixels], Tensor]"
"""Preprocessed images → unit vectors, float32 [B, E]."""


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
