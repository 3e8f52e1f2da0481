"""LanceDB embedding function "zebra" for columns of images.

Images are embedded when rows are added, and queries when the table is searched.

https://docs.lancedb.com/embedding (lancedb 0.38 to 0.40). Import this module before a table with such a column is
opened: LanceDB finds the function by its registered name.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from lancedb.embeddings import EmbeddingFunction, register
from numpy.typing import NDArray

from zebra.config.precision import InferencePrecision
from zebra.images.inputs import ImageInput
from zebra.integrations.image_uris import resolve_image
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load

Vectors = list[NDArray[np.float32] | None]


@register("zebra")
class ZebraEmbeddingFunction(EmbeddingFunction):
    """Unit vectors of images, and of queries by text or image.

    The table records the name of the model, not the model: it must open again where the table is used.
    """

    name: str
    """A name or path that `zebra.load` opens."""
    device: str = "auto"
    precision: InferencePrecision | Literal["auto"] = "fp32"
    _clip: Bundle | None = None

    def ndims(self) -> int:
        """Return the number of components of a vector."""
        return self._loaded().embed_dim

    def compute_query_embeddings(self, query: str | ImageInput, *_: Any, **__: Any) -> Vectors:
        """Return the vector of a query in a list: a text is searched for as a text, anything else is an image."""
        clip = self._loaded()
        vectors_1E = clip.encode_texts([query]) if isinstance(query, str) else clip.encode_images([query])
        return list(vectors_1E.numpy())

    def compute_source_embeddings(
        self, images: ImageInput | Sequence[ImageInput] | pa.Array | pa.ChunkedArray, *_: Any, **__: Any
    ) -> Vectors:
        """Return a vector per image: a path, a `file://` URI or the bytes of an image file; None for a missing value.

        Raises:
            BadSample: An image cannot be decoded or is a URL; the message names it.
            DataError: A file is missing.
        """
        values = self.sanitize_input(images if isinstance(images, Sequence | pa.Array | pa.ChunkedArray) else [images])
        rows = [row for row, value in enumerate(values) if value is not None]
        vectors_NE = self._loaded().encode_images(resolve_image(values[row], f"image {row}") for row in rows).numpy()
        by_row = dict(zip(rows, vectors_NE, strict=True))
        return [by_row.get(row) for row in range(len(values))]

    def sanitize_input(self, texts: Any) -> list[Any]:
        """Return one value, a list or a column of Arrow as a list."""
        if isinstance(texts, str | bytes):
            return [texts]
        return list(texts.to_pylist() if isinstance(texts, pa.Array | pa.ChunkedArray) else texts)

    def compute_source_embeddings_with_retry(self, *args: Any, **options: Any) -> Vectors:
        """Call `compute_source_embeddings` once: a missing file is missing the next time too, and keeps its error."""
        return self.compute_source_embeddings(*args, **options)

    def compute_query_embeddings_with_retry(self, *args: Any, **options: Any) -> Vectors:
        """Call `compute_query_embeddings` once."""
        return self.compute_query_embeddings(*args, **options)

    def _loaded(self) -> Bundle:
        if self._clip is None:
            self._clip = load(self.name, device=self.device, precision=self.precision)
        return self._clip
