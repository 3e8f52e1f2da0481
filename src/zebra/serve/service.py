"""The life of a service: model and store are opened behind it, requests are answered, and the last ones waited for."""

import asyncio
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from zebra.config.serve import ServeConfig
from zebra.pretrained.bundle import Bundle
from zebra.serve.bodies import Places
from zebra.serve.encoder import Encoder
from zebra.serve.metrics import Metrics
from zebra.serve.pool import Pool
from zebra.serve.refusals import Refusal
from zebra.workflows.search import Searcher, open_searcher
from zebra.workflows.serve import captions_like

READERS = 4
"""Threads that wait for disks."""
QUICK_SECONDS = 0.1
"""A full pass that one thread makes in less is left to one: several wait for each other at every step of it, and that
is long where the network and the decoding want the same cores."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """A store that can be searched, and texts to try on it."""

    searcher: Searcher
    captions: tuple[str, ...]


class Service:
    """What the routes ask. It is ready once the model is warm, and not any more when it drains."""

    def __init__(
        self,
        load: Callable[[], Bundle],
        config: ServeConfig,
        *,
        opened: Callable[[], None] = lambda: None,
        failed: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        """Prepare a service; nothing is opened before it runs.

        Args:
            load: Opens the model.
            opened: Is called when everything is there and warm, before the first request.
            failed: Is told why model or store cannot be opened.
        """
        self.config = config
        self.places = Places(config.batching.queue)
        self.metrics = Metrics()
        self.metrics.turned_away(lambda: self.places.turned_away)
        self.searching = Pool("search", 2, config.batching.queue, self.metrics.stage("search"))
        self.reading = Pool("read", READERS, config.batching.queue)
        self._load = load
        self._opened = opened
        self._failed = failed
        self.is_draining = False
        """Whether new requests are turned away."""
        self._encoder: Encoder | None = None
        self._gallery: Gallery | None = None

    @property
    def is_ready(self) -> bool:
        """Whether new requests are answered."""
        return self._encoder is not None and self._encoder.works and not self.is_draining

    @property
    def encoder(self) -> Encoder:
        """The model; Refusal while it is being loaded."""
        if self._encoder is None:
            raise Refusal(503, "the model is being loaded", retry_seconds=2)
        return self._encoder

    @property
    def gallery(self) -> Gallery | None:
        """The store, if there is one; Refusal while it is being opened."""
        _ready = self.encoder
        return self._gallery

    @property
    def searcher(self) -> Searcher:
        """The store; Refusal if there is none."""
        gallery = self.gallery
        if gallery is None:
            raise Refusal(
                404,
                "this service has no store to search; make one with: zebra embed MODEL PICTURES --out STORE, and start "
                "it with --store STORE",
            )
        return gallery.searcher

    def drain(self) -> None:
        """Take no new work; what was accepted is still answered."""
        self.is_draining = True

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Open everything in the background; close it in the end."""
        async with AsyncExitStack() as stack:
            stack.enter_context(_quiet())
            model = ThreadPoolExecutor(1, thread_name_prefix="model")
            stack.callback(model.shutdown, cancel_futures=True)
            stack.callback(self.searching.close)
            stack.callback(self.reading.close)
            opening = asyncio.create_task(self._open(model, stack))
            opening.add_done_callback(self._tell)
            yield
            self.drain()
            opening.cancel()
            await asyncio.wait([opening])

    async def _open(self, model: ThreadPoolExecutor, stack: AsyncExitStack) -> None:
        clip, self._gallery = await asyncio.get_running_loop().run_in_executor(model, self._prepare)
        self._opened()
        encoder = Encoder(clip, self.config.batching, model, self.metrics)
        self._encoder = await stack.enter_async_context(encoder)

    def _tell(self, opening: "asyncio.Task[None]") -> None:
        error = None if opening.cancelled() else opening.exception()
        if error is not None:
            self._failed(error)

    def _prepare(self) -> tuple[Bundle, Gallery | None]:
        clip, gallery = self._load(), None
        if self.config.store is not None:
            searcher = open_searcher(self.config.store, model=clip.fingerprint)
            gallery = Gallery(searcher, captions_like(Path(self.config.store)))
        warm(clip, self.config.batching.size)
        return clip, gallery


def warm(clip: Bundle, size: int) -> None:
    """Make the first passes, which are slow (memory is taken, kernels are chosen), and settle on this thread's helpers.

    Other threads, those that search among them, have as many as before.

    Args:
        size: Of a full batch.
    """
    side, threads = clip.image_size, torch.get_num_threads()
    picture = np.zeros((side, side, 3), np.uint8)
    for items in (1, size):
        clip.encode_images([picture] * items)
        if clip.tokenizer is not None:
            clip.encode_texts(["a photo"] * items)
    torch.set_num_threads(1)
    began = time.perf_counter()
    clip.encode_images([picture] * size)
    if time.perf_counter() - began > QUICK_SECONDS:
        torch.set_num_threads(threads)
    with ThreadPoolExecutor(1) as other:  # what a thread sets holds for itself, and for all that begin later
        other.submit(torch.set_num_threads, threads).result()


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave Pillow's warnings alone.

    Decoding silences warnings, which belong to the whole process: threads that do so at once may leave the silence
    behind, so what held before is put back in the end.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
