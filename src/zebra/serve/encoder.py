"""Batched access to the model: queues per input type, and a cache of heads."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zebra.config.cores import usable_cores
from zebra.config.serve import BatchingConfig
from zebra.serve.batching import Batcher
from zebra.serve.concurrency import BoundedQueue, WeightLimit, gather_or_cancel
from zebra.serve.image_header import read_num_pixels
from zebra.serve.limits import MAX_PIXELS
from zebra.serve.lru_cache import LRUCache
from zebra.serve.metrics import Metrics
from zebra.serve.model_client import (
    DecodedImage,
    HeatMap,
    ModelClient,
    ModelMetadata,
    TextEmbedding,
    Vector,
    ZeroShotHead,
)
from zebra.serve.request_images import ImageFile

PROMPTS_PER_CHUNK = 256
"""A large head is built in chunks of this size, so that other requests run in between."""
HEAD_CACHE_SIZE = 64
MAX_HEAT_MAPS = 16
"""Heat maps that may wait; each takes the model for a second or so."""
MAX_PIXELS_PER_CALL = 8_000_000
"""Pixels that one call decodes at once; the limit of all calls together is that of a single image."""

HeadRequest = tuple[Sequence[str], Sequence[str]]
"""Labels and templates."""


class BatchedEncoder:
    """Share one model between concurrent requests; an async context manager."""

    def __init__(self, model: ModelClient, batching: BatchingConfig, metrics: Metrics, num_workers: int = 1) -> None:
        """Create an encoder.

        Args:
            num_workers: Number of batches of a kind that the model computes at once.
        """
        self._model = model
        self._num_workers = num_workers
        # Twice as many as decoding threads, so that no thread waits for the next image to arrive over the socket.
        self._decode_queue = BoundedQueue(2 * usable_cores(), batching.max_queue_size, metrics.stage_callback("decode"))
        self._heat_map_queue = BoundedQueue(1, MAX_HEAT_MAPS)
        self._pixel_limit = WeightLimit(MAX_PIXELS)
        unbatched = replace(batching, max_batch_size=1, max_delay_seconds=0.0)
        self._text_batch_size = batching.max_batch_size
        self._text_batcher = Batcher[str, TextEmbedding](model.encode_texts, batching, metrics.batch_callback("texts"))
        self._image_batcher = Batcher[DecodedImage, Vector](
            model.encode_images, batching, metrics.batch_callback("images")
        )
        self._head_batcher = Batcher[HeadRequest, ZeroShotHead](
            self._build_heads, unbatched, metrics.batch_callback("labels")
        )
        self._head_cache: LRUCache[tuple[tuple[str, ...], tuple[str, ...]], ZeroShotHead] = LRUCache(HEAD_CACHE_SIZE)
        self._batcher_tasks: list[asyncio.Task[None]] = []
        metrics.track_queue("texts", lambda: len(self._text_batcher))
        metrics.track_queue("images", lambda: len(self._image_batcher))
        metrics.track_queue("labels", lambda: len(self._head_batcher))
        metrics.track_queue("decode", lambda: len(self._decode_queue))

    async def __aenter__(self) -> "BatchedEncoder":
        """Start the batchers."""
        batchers = (self._text_batcher, self._image_batcher, self._head_batcher)
        self._batcher_tasks = [
            asyncio.create_task(batcher.run_forever()) for batcher in batchers for _ in range(self._num_workers)
        ]
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop the batchers and drop the waiting items."""
        for task in self._batcher_tasks:
            task.cancel()
        await asyncio.gather(*self._batcher_tasks, return_exceptions=True)

    @property
    def metadata(self) -> ModelMetadata:
        """The metadata of the model."""
        return self._model.metadata

    @property
    def is_healthy(self) -> bool:
        """Whether the model is ready, the batchers run, and no batch hangs."""
        batchers = (self._text_batcher, self._image_batcher, self._head_batcher)
        return (
            self._model.is_ready
            and not any(task.done() for task in self._batcher_tasks)
            and not any(batcher.is_stuck for batcher in batchers)
        )

    async def encode_texts(self, texts: Sequence[str]) -> list[TextEmbedding]:
        """Embed texts, batch by batch; texts longer than the context are truncated and marked."""
        step = self._text_batch_size
        return [
            embedding
            for start in range(0, len(texts), step)
            for embedding in await self._text_batcher(texts[start : start + step])
        ]

    def require_capacity(self, num_images: int) -> None:
        """Raise HTTPError (429) if so many images cannot be queued, before they are decoded."""
        self._image_batcher.require_capacity(num_images)

    async def encode_image_files(self, files: Sequence[ImageFile]) -> list[Vector]:
        """Return the float32 unit vector [E] of each image.

        Few large images of one call are decoded at once, so that images of other calls run in between.

        Raises:
            BadSample: An image cannot be decoded.
            HTTPError: A queue is full (429), or an image waited too long (503).
        """
        pixel_limit = WeightLimit(MAX_PIXELS_PER_CALL)
        return await gather_or_cancel([self._encode_image_file(file, pixel_limit) for file in files])

    async def _encode_image_file(self, file: ImageFile, pixel_limit: WeightLimit) -> Vector:
        async with pixel_limit.hold(file.num_pixels):
            result = await self._decode_queue(self._decode, file)
        if isinstance(result, DecodedImage):
            [result] = await self._image_batcher([result])
        return result

    async def _decode(self, file: ImageFile) -> DecodedImage | Vector:
        async with self._pixel_limit.hold(file.num_pixels):
            return await self._model.decode_image(file.data, file.where, file.num_pixels)

    async def resize_image(self, data: bytes, max_side: int) -> bytes:
        """Return an image as a JPEG with sides of at most `max_side` pixels.

        Raises:
            BadSample: The image cannot be decoded.
            HTTPError: The queue is full (429).
        """
        return await self._decode_queue(self._resize, data, max_side)

    async def _resize(self, data: bytes, max_side: int) -> bytes:
        async with self._pixel_limit.hold(read_num_pixels(data) or MAX_PIXELS):
            return await self._model.resize_image(data, max_side)

    async def heat_map(self, file: ImageFile, text: str) -> HeatMap:
        """Map where an image matches a text, one image at a time.

        Raises:
            BadSample: The image cannot be decoded.
            ConfigError: The model has no tokenizer, or computes no gradients.
            HTTPError: Too many heat maps are waiting (429).
        """
        return await self._heat_map_queue(self._model.heat_map, file.data, file.where, file.num_pixels, text)

    async def build_head(self, labels: Sequence[str], templates: Sequence[str]) -> ZeroShotHead:
        """Build a zero-shot head, in chunks if it is large.

        Raises:
            ConfigError: Two labels are one text to the model, or the model has no tokenizer.
            HTTPError: A queue is full (429), or a chunk waited too long (503).
        """
        key = (tuple(labels), tuple(templates))
        head = self._head_cache.get(key)
        if head is None:
            await self._model.require_distinct_labels(labels)
            step = max(1, PROMPTS_PER_CHUNK // len(templates))
            requests = [(labels[start : start + step], templates) for start in range(0, len(labels), step)]
            chunks = [(await self._head_batcher([request]))[0] for request in requests]
            head = ZeroShotHead(
                np.concatenate([chunk.vectors_CE for chunk in chunks]), sum(chunk.num_truncated for chunk in chunks)
            )
            self._head_cache.put(key, head)
        return head

    async def _build_heads(self, requests: Sequence[HeadRequest]) -> list[ZeroShotHead]:
        return [await self._model.build_head(labels, templates) for labels, templates in requests]
