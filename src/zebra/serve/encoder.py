"""The model behind its queues: texts, pictures and labels of many requests in, vectors and heads out."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from zebra.config.serve import BatchingConfig
from zebra.data.dataset_stats import usable_cores
from zebra.serve.batching import Batcher
from zebra.serve.concurrency import Turns
from zebra.serve.lru_cache import Recent
from zebra.serve.metrics import Metrics
from zebra.serve.model_runner import Decoded, Facts, Head, Model, TextVector

T = TypeVar("T")

PROMPTS_AT_ONCE = 256
"""Of a large head; between these, others have their turn."""

Piece = tuple[Sequence[str], Sequence[str]]
"""Labels and templates."""


class Encoder:
    """Shares one model between many requests; an async context manager."""

    def __init__(self, model: Model, batching: BatchingConfig, metrics: Metrics) -> None:
        self._model = model
        # Twice as many as there are threads for it, so that none waits for the next picture to come over.
        self._decoding = Turns(2 * usable_cores(), batching.queue, metrics.stage("decode"))
        alone = replace(batching, size=1, delay_seconds=0.0)
        self._texts = Batcher[str, TextVector](model.texts, batching, metrics.passes("texts"))
        self._pictures = Batcher[Decoded, Tensor](model.pictures, batching, metrics.passes("pictures"))
        self._heads = Batcher[Piece, Head](self._pieces, alone, metrics.passes("labels"))
        self._known_heads: Recent[tuple[tuple[str, ...], tuple[str, ...]], Head] = Recent(64)
        self._workers: list[asyncio.Task[None]] = []
        metrics.queue("texts", lambda: len(self._texts))
        metrics.queue("pictures", lambda: len(self._pictures))
        metrics.queue("labels", lambda: len(self._heads))
        metrics.queue("decode", lambda: len(self._decoding))

    async def __aenter__(self) -> "Encoder":
        """Begin to take from the queues."""
        batchers = (self._texts, self._pictures, self._heads)
        self._workers = [asyncio.create_task(batcher.work()) for batcher in batchers]
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop; what waits is dropped."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    @property
    def facts(self) -> Facts:
        """What there is to know of the model."""
        return self._model.facts

    @property
    def works(self) -> bool:
        """Whether the model is there, the queues are emptied, and no pass has hung."""
        batchers = (self._texts, self._pictures, self._heads)
        return (
            self._model.is_up
            and not any(worker.done() for worker in self._workers)
            and not any(batcher.stuck for batcher in batchers)
        )

    async def texts(self, texts: Sequence[str]) -> list[TextVector]:
        """Embed texts; over-long ones are cut, and say so."""
        return await self._texts(texts)

    def require_room(self, pictures: int) -> None:
        """Refuse, with 429, more pictures than can wait: better before than after they are decoded."""
        self._pictures.require_room(pictures)

    async def picture(self, data: str | bytes, where: str) -> Tensor:
        """Embed a picture as a float32 unit vector [E].

        Args:
            data: The encoded picture; a string holds it in base64.
            where: Names it in errors.

        Raises:
            BadSample: It cannot be used.
            Refusal: There is no room in a queue, or it waited too long there.
        """
        found = await self._decoding(self._model.decode, data, where)
        if isinstance(found, Tensor):
            return found
        [vector_E] = await self._pictures([found])
        return vector_E

    async def head(self, labels: Sequence[str], templates: Sequence[str]) -> Head:
        """Build a zero-shot head, in pieces if it is large."""
        key = (tuple(labels), tuple(templates))
        known = self._known_heads.get(key)
        if known is None:
            step = max(1, PROMPTS_AT_ONCE // len(templates))
            pieces = [(labels[first : first + step], templates) for first in range(0, len(labels), step)]
            parts = [(await self._heads([piece]))[0] for piece in pieces]
            known = Head(torch.cat([part.vectors_CE for part in parts]), sum(part.cut for part in parts))
            self._known_heads.keep(key, known)
        return known

    async def _pieces(self, pieces: Sequence[Piece]) -> list[Head]:
        return [await self._model.head(labels, templates) for labels, templates in pieces]


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await calls at once; if one fails, the others are given up."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
