"""Vectors and alignment of image-text pairs, by one model."""

import json
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.curate.vectors import (
    ALIGNMENT,
    FLIPPED_ALIGNMENT,
    IMAGE_VECTOR,
    SCORE_REASON,
    TEXT_VECTOR,
    to_column,
    to_unit_length,
)
from zebra.data.sources import Source, read_many
from zebra.errors import BadSample
from zebra.images.formats import image_digest
from zebra.images.tensors import stack_pixels
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.torch_threads import limit_torch_threads
from zebra.values import Record

SCORE_VERSION = 1
"""Changes when a value of a scored row may change."""
TEXTS_PER_BATCH = 512

Preprocess = Callable[[bytes, str], NDArray[np.uint8]]
"""An encoded image and its name → pixels [3, H, W]; raises BadSample."""
FindVectors = Callable[[Sequence[str]], Sequence[NDArray[np.floating[Any]] | None]]
"""SHA-256 digests of encoded images in hex → their vectors; None if unknown."""
Item = TypeVar("Item")
Output = TypeVar("Output")


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image that was read, with its vector."""

    record: Record
    """Name and captions; the image bytes are dropped."""
    vector_E: NDArray[np.floating[Any]]
    flipped_E: NDArray[np.floating[Any]] | None
    """Vector of the mirrored image, if requested."""


class PairScorer:
    """Encodes images and captions, and computes their alignment: the cosine of the two vectors.

    All scores are functions of the vectors in float16, in which they are stored.
    """

    def __init__(
        self,
        clip: Bundle,
        preprocess: Preprocess,
        *,
        find_vectors: FindVectors | None = None,
        store_version: str = "",
        flipped: bool = False,
        batch_size: int = 32,
        num_workers: int = 1,
    ) -> None:
        """Create a scorer.

        Args:
            preprocess: Converts images to the input of the model.
            find_vectors: Finds vectors that were computed before; by default all are computed.
            store_version: Identifies these vectors.
            flipped: Compute the alignment of the mirrored image too, which takes a second pass of the image tower.
            batch_size: Images per batch.
            num_workers: Threads that take a batch each.

        Raises:
            WeightsError: The model has no tokenizer.
        """
        clip.require_tokenizer()
        self.clip = clip
        self.flipped = flipped
        self.key = json.dumps(
            {
                "version": SCORE_VERSION,
                "fingerprint": clip.fingerprint,
                "precision": clip.precision,
                "backend": clip.backend,
                "flipped": flipped,
                "store": store_version,
            }
        )
        """Identifies everything that a score depends on besides the pair."""
        vector = pa.list_(pa.float16(), clip.embed_dim)
        self.schema = pa.schema(
            {
                IMAGE_VECTOR: vector,
                TEXT_VECTOR: vector,
                ALIGNMENT: pa.float32(),
                FLIPPED_ALIGNMENT: pa.float32(),  # null unless requested
                SCORE_REASON: pa.string(),  # why there is no score; null if there is one
            }
        )
        self._preprocess = preprocess
        self._find_vectors = find_vectors
        self._batch_size = batch_size
        self._num_workers = num_workers

    def encode_images(self, source: Source, indices: Sequence[int]) -> list[EncodedImage | BadSample]:
        """Read and encode the images at some positions of a source; only a few batches are in memory at a time."""

        def encode(batch: Sequence[int]) -> list[EncodedImage | BadSample]:
            return self._encode_records(read_many(source, batch))

        return [image for images in self._map_batches(encode, indices, self._batch_size) for image in images]

    def score(self, images: Sequence[EncodedImage | BadSample], texts: Sequence[str]) -> pa.Table:
        """Score pairs.

        Args:
            images: The image of each pair.
            texts: The caption of each pair; longer ones than the model's context are truncated.

        Returns:
            A row per pair, by `schema`.
        """
        usable = [(image, text) for image, text in zip(images, texts, strict=True) if isinstance(image, EncodedImage)]
        is_usable_N = np.array([isinstance(image, EncodedImage) for image in images], np.bool_)
        row_N = pa.array(np.cumsum(is_usable_N) - 1, pa.int64(), mask=~is_usable_N)
        table = self._score_usable([image for image, _ in usable], [text for _, text in usable]).take(row_N)
        reasons = [
            image.reason if isinstance(image, BadSample) else reason
            for image, reason in zip(images, table[SCORE_REASON].to_pylist(), strict=True)
        ]
        number = table.column_names.index(SCORE_REASON)
        return table.set_column(number, self.schema.field(SCORE_REASON), pa.array(reasons, pa.string()))

    def _score_usable(self, images: Sequence[EncodedImage], texts: Sequence[str]) -> pa.Table:
        if not images:
            return self.schema.empty_table()
        image_NE = np.stack([image.vector_E for image in images]).astype(np.float16)
        text_NE = self._encode_texts(texts).astype(np.float16)
        alignment_N = rowwise_cosine(image_NE, text_NE)
        flipped_N: pa.Array = pa.nulls(len(images), pa.float32())
        if self.flipped:
            flipped_NE = np.stack([image.flipped_E for image in images if image.flipped_E is not None])
            flipped_N = pa.array(rowwise_cosine(flipped_NE.astype(np.float16), text_NE))
        reasons = [None if np.isfinite(alignment) else "alignment is not a number" for alignment in alignment_N]
        columns = [to_column(image_NE), to_column(text_NE), pa.array(alignment_N), flipped_N, reasons]
        return pa.table(columns, schema=self.schema)

    def _encode_records(self, records: Sequence[Record | BadSample]) -> list[EncodedImage | BadSample]:
        """Encode a batch; an image whose vector is known is not decoded, unless it is mirrored."""
        vectors = self._find_known(records)
        results, pixels = list(records), dict[int, NDArray[np.uint8]]()
        for position, record in enumerate(records):
            if isinstance(record, Record) and (self.flipped or position not in vectors):
                try:
                    pixels[position] = self._preprocess(record.image, record.id)
                except BadSample as bad:
                    results[position] = bad
        flipped = self._encode_pixels(
            {at: image_3HW[:, :, ::-1] for at, image_3HW in pixels.items()} if self.flipped else {}
        )
        vectors |= self._encode_pixels({at: image_3HW for at, image_3HW in pixels.items() if at not in vectors})
        return [
            result
            if isinstance(result, BadSample)
            else EncodedImage(replace(result, image=b""), vectors[position], flipped.get(position))
            for position, result in enumerate(results)
        ]

    def _find_known(self, records: Sequence[Record | BadSample]) -> dict[int, NDArray[np.floating[Any]]]:
        """Return the known vectors by position."""
        if self._find_vectors is None:
            return {}
        positions = [position for position, record in enumerate(records) if isinstance(record, Record)]
        digests = [image_digest(record.image) for record in records if isinstance(record, Record)]
        found = zip(positions, self._find_vectors(digests), strict=True)
        return {position: vector_E for position, vector_E in found if vector_E is not None}

    def _encode_pixels(self, images: dict[int, NDArray[np.uint8]]) -> dict[int, NDArray[np.floating[Any]]]:
        if not images:
            return {}
        pixels = stack_pixels([np.ascontiguousarray(image_3HW) for image_3HW in images.values()])
        return dict(zip(images, self.clip.encode_pixels(pixels).numpy(), strict=True))

    def _encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of texts; equal ones are encoded once."""
        row_by_text = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        with warnings.catch_warnings():
            # once per unit would be too often; truncation is part of the score's definition
            warnings.filterwarnings("ignore", "[0-9]+ of [0-9]+ texts were truncated")
            parts = self._map_batches(
                lambda batch: self.clip.encode_texts(batch).numpy(), list(row_by_text), TEXTS_PER_BATCH
            )
        vectors: NDArray[np.float32] = np.concatenate(parts)[[row_by_text[text] for text in texts]]
        return vectors

    def _map_batches(
        self, encode: Callable[[Sequence[Item]], Output], items: Sequence[Item], size: int
    ) -> list[Output]:
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        with limit_torch_threads(self._num_workers), ThreadPoolExecutor(self._num_workers, "score") as executor:
            return list(executor.map(encode, batches))


def rowwise_cosine(left_NE: NDArray[np.floating[Any]], right_NE: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the cosine of each row with the row of the same number, float32 [N]."""
    cosine_N: NDArray[np.float32] = np.einsum("ne,ne->n", to_unit_length(left_NE), to_unit_length(right_NE))
    return cosine_N
