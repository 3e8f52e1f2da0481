"""The model behind its queues: texts, pictures and labels of many requests in, vectors and heads out."""

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zebra.config.serve import BatchingConfig
from zebra.data.survey import usable_cores
from zebra.embed.stages import Prepare
from zebra.pretrained.bundle import Bundle
from zebra.serve.batching import Batcher
from zebra.serve.limits import PIXELS
from zebra.serve.metrics import Metrics
from zebra.serve.pictures import digest, pixels
from zebra.serve.pool import Pool
from zebra.serve.recent import Recent
from zebra.text.templates import fill

T = TypeVar("T")

PROMPTS_AT_ONCE = 256
"""Of a large head; between these, others have their turn."""


@dataclass(frozen=True, slots=True)
class TextVector:
    """A text as the model sees it."""

    vector_E: Tensor
    """float32, unit length."""
    tokens: int
    """That were read, start and end included."""
    is_cut: bool
    """There were more than the context holds."""


@dataclass(frozen=True, slots=True)
class Head:
    """Labels as the model sees them."""

    vectors_CE: Tensor
    cut: int
    """Prompts that were longer than the context."""


class Encoder:
    """Runs one model for many requests; an async context manager.

    The model has one thread: its passes are as parallel as torch makes them, and never wait for each other's cores.
    """

    def __init__(
        self, clip: Bundle, batching: BatchingConfig, model: ThreadPoolExecutor, metrics: Metrics
    ) -> None:
        self.clip = clip
        self._prepare = Prepare(clip.preprocess, thumbnail=0, max_pixels=PIXELS)
        self._decoding = Pool("decode", usable_cores(), batching.queue, metrics.stage("decode"))
        alone = replace(batching, size=1, delay_seconds=0.0)
        self._texts = Batcher(self._encode_texts, batching, model, metrics.passes("texts"))
        self._pictures = Batcher(self._encode_pixels, batching, model, metrics.passes("pictures"))
        self._heads = Batcher(self._encode_labels, alone, model, metrics.passes("labels"))
        self._known_pictures: Recent[str, Tensor] = Recent(1024)
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
        self._decoding.close()

    @property
    def works(self) -> bool:
        """Whether the queues are emptied, and no pass has hung."""
        batchers = (self._texts, self._pictures, self._heads)
        return not any(worker.done() for worker in self._workers) and not any(b.stuck for b in batchers)

    async def texts(self, texts: Sequence[str]) -> list[TextVector]:
        """Embed texts; over-long ones are cut, and say so."""
        return await self._texts(texts)

    def require_room(self, pictures: int) -> None:
        """Refuse, with 429, more pictures than can wait: better before than after they are decoded."""
        self._pictures.require_room(pictures)

    async def picture(self, read: Callable[[], bytes], where: str) -> Tensor:
        """Embed a picture as a float32 unit vector [E].

        Args:
            read: Returns the encoded picture; it is called in a thread.
            where: Names it in errors.

        Raises:
            BadSample: It cannot be used.
            Refusal: There is no room in a queue, or it waited too long there.
        """
        name, found = await self._decoding(self._known_or_decoded, read, where)
        if isinstance(found, Tensor):
            return found
        [vector_E] = await self._pictures([found])
        self._known_pictures.keep(name, vector_E)
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

    def _known_or_decoded(
        self, read: Callable[[], bytes], where: str
    ) -> tuple[str, Tensor | NDArray[np.uint8]]:
        """Do all that a picture needs of a thread at once; each way there and back costs the event loop its share."""
        data = read()
        name = digest(data)
        known = self._known_pictures.get(name)
        return name, pixels(data, where, self._prepare) if known is None else known

    def _encode_texts(self, texts: Sequence[str]) -> list[TextVector]:
        words = self.clip.require_words()
        rows = words.encode(texts, truncate=True)
        with _untold(rows.truncated):
            vectors_NE = self.clip.encode_texts(texts)
        lengths = rows.lengths.tolist()
        # Which of them were cut, the rows do not say; only the full ones can be.
        return [
            TextVector(
                vector_E,
                tokens,
                tokens == words.context_length and bool(words.encode([text], truncate=True).truncated),
            )
            for text, vector_E, tokens in zip(texts, vectors_NE, lengths, strict=True)
        ]

    def _encode_pixels(self, pixels: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        return list(self.clip.encode_pixels(torch.from_numpy(np.stack(pixels))))

    def _encode_labels(self, pieces: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[Head]:
        heads = []
        for labels, templates in pieces:
            prompts = [fill(template, label) for label in labels for template in templates]
            cut = self.clip.require_words().encode(prompts, truncate=True).truncated
            with _untold(cut):
                heads.append(Head(self.clip.class_vectors(labels, templates), cut))
        return heads


@contextmanager
def _untold(cut: int) -> Iterator[None]:
    """Keep from warning here of texts that are cut: the answer says so."""
    with warnings.catch_warnings() if cut else nullcontext():
        if cut:
            warnings.simplefilter("ignore", UserWarning)
        yield


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await calls at once; if one fails, the others are given up."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
