"""The life of a service: model and store are opened behind it, requests are answered, and the last ones waited for."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from zebra.config.serve import ServeConfig
from zebra.serve.concurrency import Pool
from zebra.serve.encoder import Encoder
from zebra.serve.errors import Refusal
from zebra.serve.metrics import Metrics
from zebra.serve.middleware.body_limit import Places
from zebra.serve.model_runner import Model
from zebra.workflows.search import Searcher, open_searcher
from zebra.workflows.serve import captions_like

READERS = 4
"""Threads that wait for disks."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """A store that can be searched, and texts to try on it."""

    searcher: Searcher
    captions: tuple[str, ...]


class Service:
    """What the routes ask. It is ready once the model is warm, and not any more when it drains."""

    def __init__(
        self,
        model: AbstractAsyncContextManager[Model],
        config: ServeConfig,
        *,
        opened: Callable[[], None] = lambda: None,
        failed: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        """Prepare a service; nothing is opened before it runs.

        Args:
            model: Is entered when the service runs, and is warm then.
            opened: Is called when everything is there and warm, before the first request.
            failed: Is told why model or store cannot be opened.
        """
        self.config = config
        self.places = Places(config.batching.queue)
        self.metrics = Metrics()
        self.metrics.turned_away(lambda: self.places.turned_away)
        self.searching = Pool("search", 2, config.batching.queue, self.metrics.stage("search"))
        self.reading = Pool("read", READERS, config.batching.queue)
        self._model = model
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
            stack.callback(self.searching.close)
            stack.callback(self.reading.close)
            opening = asyncio.create_task(self._open(stack))
            opening.add_done_callback(self._tell)
            yield
            self.drain()
            opening.cancel()
            await asyncio.wait([opening])

    async def _open(self, stack: AsyncExitStack) -> None:
        model = await stack.enter_async_context(self._model)
        self._gallery = await self.reading(self._open_gallery, model.facts.fingerprint)
        self._opened()
        encoder = Encoder(model, self.config.batching, self.metrics)
        self._encoder = await stack.enter_async_context(encoder)

    def _tell(self, opening: "asyncio.Task[None]") -> None:
        error = None if opening.cancelled() else opening.exception()
        if error is not None:
            self._failed(error)

    def _open_gallery(self, fingerprint: str) -> Gallery | None:
        if self.config.store is None:
            return None
        searcher = open_searcher(self.config.store, model=fingerprint)
        return Gallery(searcher, captions_like(Path(self.config.store)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave Pillow's warnings alone.

    Decoding silences warnings, which belong to the whole process: threads that do so at once may leave the silence
    behind, so what held before is put back in the end.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
