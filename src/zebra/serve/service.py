"""The life of a service: model and store are opened behind it, requests are answered, and the last ones waited for."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from zebra.config.serve import ServeConfig
from zebra.serve.concurrency import BoundedThreadPool
from zebra.serve.encoder import BatchedEncoder
from zebra.serve.errors import HTTPError
from zebra.serve.metrics import Metrics
from zebra.serve.middleware.body_limit import ConcurrencyLimit
from zebra.serve.model_runner import ModelClient
from zebra.workflows.search import Searcher, open_searcher
from zebra.workflows.serve import example_captions

NUM_READ_THREADS = 4
"""Threads that wait for disks."""


@dataclass(frozen=True, slots=True)
class SearchBackend:
    """A store that can be searched, and texts to try on it."""

    searcher: Searcher
    example_captions: tuple[str, ...]


class Service:
    """What the routes ask. It is ready once the model is warm, and not any more when it drains."""

    def __init__(
        self,
        model: AbstractAsyncContextManager[ModelClient],
        config: ServeConfig,
        *,
        on_ready: Callable[[], None] = lambda: None,
        on_error: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        """Prepare a service; nothing is opened before it runs.

        Args:
            model: Is entered when the service runs, and is warm then.
            on_ready: Is called when everything is there and warm, before the first request.
            on_error: Is told why model or store cannot be opened.
        """
        self.config = config
        self.concurrency_limit = ConcurrencyLimit(config.batching.max_queue_size)
        self.metrics = Metrics()
        self.metrics.track_rejected(lambda: self.concurrency_limit.num_rejected)
        self.search_pool = BoundedThreadPool(
            "search", 2, config.batching.max_queue_size, self.metrics.stage_callback("search")
        )
        self.read_pool = BoundedThreadPool("read", NUM_READ_THREADS, config.batching.max_queue_size)
        self._model = model
        self._on_ready = on_ready
        self._on_error = on_error
        self.is_draining = False
        """Whether new requests are turned away."""
        self._encoder: BatchedEncoder | None = None
        self._search_backend: SearchBackend | None = None

    @property
    def is_ready(self) -> bool:
        """Whether new requests are answered."""
        return self._encoder is not None and self._encoder.is_healthy and not self.is_draining

    @property
    def encoder(self) -> BatchedEncoder:
        """The model; Refusal while it is being loaded."""
        if self._encoder is None:
            raise HTTPError(503, "the model is being loaded", retry_after_seconds=2)
        return self._encoder

    @property
    def search_backend(self) -> SearchBackend | None:
        """The store, if there is one; Refusal while it is being opened."""
        _ready = self.encoder
        return self._search_backend

    @property
    def searcher(self) -> Searcher:
        """The store; Refusal if there is none."""
        gallery = self.search_backend
        if gallery is None:
            raise HTTPError(
                404,
                "this service has no store to search; make one with: zebra embed MODEL PICTURES --out STORE, and start "
                "it with --store STORE",
            )
        return gallery.searcher

    def drain(self) -> None:
        """Take no new work; what was accepted is still answered."""
        self.is_draining = True

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open everything in the background; close it in the end."""
        async with AsyncExitStack() as stack:
            stack.enter_context(_ignore_pillow_warnings())
            stack.callback(self.search_pool.close)
            stack.callback(self.read_pool.close)
            opening = asyncio.create_task(self._open(stack))
            opening.add_done_callback(self._report_error)
            yield
            self.drain()
            opening.cancel()
            await asyncio.wait([opening])

    async def _open(self, stack: AsyncExitStack) -> None:
        model = await stack.enter_async_context(self._model)
        self._search_backend = await self.read_pool(self._open_search_backend, model.metadata.fingerprint)
        self._on_ready()
        encoder = BatchedEncoder(model, self.config.batching, self.metrics)
        self._encoder = await stack.enter_async_context(encoder)

    def _report_error(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_error(error)

    def _open_search_backend(self, fingerprint: str) -> SearchBackend | None:
        if self.config.store is None:
            return None
        searcher = open_searcher(self.config.store, fingerprint=fingerprint)
        return SearchBackend(searcher, example_captions(Path(self.config.store)))


@contextmanager
def _ignore_pillow_warnings() -> Iterator[None]:
    """Leave Pillow's warnings alone.

    Decoding silences warnings, which belong to the whole process: threads that do so at once may leave the silence
    behind, so what held before is put back in the end.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
