"""The model behind its queues: texts, pictures and labels of many requests in, vectors and heads out."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from zebra.config.cores import usable_cores
from zebra.config.serve import BatchingConfig
from zebra.serve.batching import Batcher
from zebra.serve.concurrency import BoundedQueue
from zebra.serve.lru_cache import LRUCache
from zebra.serve.metrics import Metrics
from zebra.serve.model_runner import DecodedImage, ModelClient, ModelMetadata, TextEmbedding, ZeroShotHead

T = TypeVar("T")

PROMPTS_PER_CHUNK = 256
"""Of a large head; between these, others have their turn."""

HeadRequest = tuple[Sequence[str], Sequence[str]]
"""Labels and templates."""


class BatchedEncoder:
    """Shares one model between many requests; an async context manager."""

    def __init__(self, model: ModelClient, batching: BatchingConfig, metrics: Metrics) -> None:
        self._model = model
        # Twice as many as there are threads for it, so that none waits for the next picture to come over.
        self._decode_queue = BoundedQueue(
            2 * usable_cores(), batching.max_queue_size, metrics.stage_callback("decode")
        )
        alone = replace(batching, max_batch_size=1, max_delay_seconds=0.0)
        self._text_batcher = Batcher[str, TextEmbedding](
            model.encode_texts, batching, metrics.batch_callback("texts")
        )
        self._image_batcher = Batcher[DecodedImage, Tensor](
            model.encode_images, batching, metrics.batch_callback("pictures")
        )
        self._head_batcher = Batcher[HeadRequest, ZeroShotHead](
            self._build_heads, alone, metrics.batch_callback("labels")
        )
        self._head_cache: LRUCache[tuple[tuple[str, ...], tuple[str, ...]], ZeroShotHead] = LRUCache(64)
        self._batcher_tasks: list[asyncio.Task[None]] = []
        metrics.track_queue("texts", lambda: len(self._text_batcher))
        metrics.track_queue("pictures", lambda: len(self._image_batcher))
        metrics.track_queue("labels", lambda: len(self._head_batcher))
        metrics.track_queue("decode", lambda: len(self._decode_queue))

    async def __aenter__(self) -> "BatchedEncoder":
        """Begin to take from the queues."""
        batchers = (self._text_batcher, self._image_batcher, self._head_batcher)
        self._batcher_tasks = [asyncio.create_task(batcher.run_forever()) for batcher in batchers]
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop; what waits is dropped."""
        for worker in self._batcher_tasks:
            worker.cancel()
        await asyncio.gather(*self._batcher_tasks, return_exceptions=True)

    @property
    def metadata(self) -> ModelMetadata:
        """What there is to know of the model."""
        return self._model.metadata

    @property
    def is_healthy(self) -> bool:
        """Whether the model is there, the queues are emptied, and no pass has hung."""
        batchers = (self._text_batcher, self._image_batcher, self._head_batcher)
        return (
            self._model.is_ready
            and not any(worker.done() for worker in self._batcher_tasks)
            and not any(batcher.is_stuck for batcher in batchers)
        )

    async def encode_texts(self, texts: Sequence[str]) -> list[TextEmbedding]:
        """Embed texts; over-long ones are cut, and say so."""
        return await self._text_batcher(texts)

    def require_capacity(self, num_images: int) -> None:
        """Refuse, with 429, more pictures than can wait: better before than after they are decoded."""
        self._image_batcher.require_capacity(num_images)

    async def encode_image(self, data: str | bytes, where: str) -> Tensor:
        """Embed a picture as a float32 unit vector [E].

        Args:
            data: The encoded picture; a string holds it in base64.
            where: Names it in errors.

        Raises:
            BadSample: It cannot be used.
            Refusal: There is no room in a queue, or it waited too long there.
        """
        found = await self._decode_queue(self._model.decode_image, data, where)
        if isinstance(found, Tensor):
            return found
        [vector_E] = await self._image_batcher([found])
        return vector_E

    async def build_head(self, labels: Sequence[str], templates: Sequence[str]) -> ZeroShotHead:
        """Build a zero-shot head, in pieces if it is large."""
        key = (tuple(labels), tuple(templates))
        known = self._head_cache.get(key)
        if known is None:
            step = max(1, PROMPTS_PER_CHUNK // len(templates))
            pieces = [(labels[first : first + step], templates) for first in range(0, len(labels), step)]
            parts = [(await self._head_batcher([piece]))[0] for piece in pieces]
            known = ZeroShotHead(
                torch.cat([part.vectors_CE for part in parts]), sum(part.num_truncated for part in parts)
            )
            self._head_cache.put(key, known)
        return known

    async def _build_heads(self, requests: Sequence[HeadRequest]) -> list[ZeroShotHead]:
        return [await self._model.build_head(labels, templates) for labels, templates in requests]


async def gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await calls at once; if one fails, the others are given up."""
    tasks = [asyncio.ensure_future(call) for call in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
