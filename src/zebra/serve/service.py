"""The service behind the routes: open model and store, answer requests, drain."""

import asyncio
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from zebra.config.serve import ServeConfig
from zebra.search.searcher import Searcher, open_searcher
from zebra.serve.concurrency import BoundedThreadPool, ConcurrencyLimit
from zebra.serve.encoder import BatchedEncoder
from zebra.serve.errors import HTTPError
from zebra.serve.limits import MAX_UNSENT_BYTES
from zebra.serve.metrics import Metrics
from zebra.serve.model_client import ModelClient, ModelMetadata
from zebra.store import Store

NUM_SEARCH_THREADS = 2
NUM_READ_THREADS = 4
"""Threads that read from disk."""
NUM_EXAMPLES = 6
FREQUENT_CAPTION = 3
"""Rows from which a caption is frequent: the model has probably learned it."""
MAX_CAPTION_ROWS = 2000
"""Rows that example captions are taken from."""


@dataclass(frozen=True, slots=True)
class SearchBackend:
    """The searcher of a store, and example queries for it."""

    searcher: Searcher
    example_captions: tuple[str, ...]


class Service:
    """Model, store and metrics of a server. It is ready from the model's warm-up until it drains."""

    def __init__(
        self,
        model: AbstractAsyncContextManager[ModelClient],
        config: ServeConfig,
        *,
        on_ready: Callable[[], None] = lambda: None,
        on_error: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        """Create a service; `lifespan` opens the model and the store.

        Args:
            model: Entered by `lifespan`; it is warm once it is entered.
            on_ready: Called when the model and the store are open, before the first request.
            on_error: Called with the exception if the model or the store cannot be opened.
        """
        self.config = config
        num_in_other_workers = (config.workers - 1) * config.batching.max_batch_size
        self.concurrency_limit = ConcurrencyLimit(
            config.batching.max_queue_size + num_in_other_workers, MAX_UNSENT_BYTES
        )
        self.metrics = Metrics()
        self.metrics.track_rejected(lambda: self.concurrency_limit.num_rejected)
        self.search_pool = BoundedThreadPool(
            "search", NUM_SEARCH_THREADS, config.batching.max_queue_size, self.metrics.stage_callback("search")
        )
        self.read_pool = BoundedThreadPool("read", NUM_READ_THREADS, config.batching.max_queue_size)
        self._model = model
        self._on_ready = on_ready
        self._on_error = on_error
        self.is_draining = False
        """Whether new requests are rejected."""
        self._encoder: BatchedEncoder | None = None
        self._search_backend: SearchBackend | None = None

    @property
    def is_ready(self) -> bool:
        """Whether new requests are answered."""
        return self._encoder is not None and self._encoder.is_healthy and not self.is_draining

    @property
    def encoder(self) -> BatchedEncoder:
        """The model; HTTPError (503) while it is loading."""
        if self._encoder is None:
            raise HTTPError(503, "the model is still loading", retry_after_seconds=2)
        return self._encoder

    @property
    def search_backend(self) -> SearchBackend | None:
        """The store, or None without one; HTTPError (503) while it is opening."""
        _ready = self.encoder
        return self._search_backend

    @property
    def searcher(self) -> Searcher:
        """The searcher of the store; HTTPError (404) if the server has no store."""
        backend = self.search_backend
        if backend is None:
            raise HTTPError(
                404,
                "this server has no store. Create one with `zebra embed MODEL IMAGES --out STORE`, and start the "
                "server with --store STORE.",
            )
        return backend.searcher

    def drain(self) -> None:
        """Reject new requests; accepted ones are still answered."""
        self.is_draining = True

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the model and the store in the background, and close them at the end."""
        async with AsyncExitStack() as stack:
            stack.enter_context(_ignore_pillow_warnings())
            stack.callback(self.search_pool.close)
            stack.callback(self.read_pool.close)
            open_task = asyncio.create_task(self._open(stack))
            open_task.add_done_callback(self._report_error)
            yield
            self.drain()
            open_task.cancel()
            await asyncio.wait([open_task])

    async def _open(self, stack: AsyncExitStack) -> None:
        model = await stack.enter_async_context(self._model)
        self._search_backend = await self.read_pool(self._open_search_backend, model.metadata)
        self._on_ready()
        encoder = BatchedEncoder(model, self.config.batching, self.metrics, self.config.workers)
        self._encoder = await stack.enter_async_context(encoder)

    def _report_error(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_error(error)

    def _open_search_backend(self, metadata: ModelMetadata) -> SearchBackend | None:
        if self.config.store is None:
            return None
        searcher = open_searcher(self.config.store, fingerprint=metadata.fingerprint)
        if self.config.dimensions is not None:
            searcher = searcher.shorten(self.config.dimensions, metadata.dimensions)
        return SearchBackend(searcher, example_captions(Path(self.config.store)))


def example_captions(store_path: Path) -> tuple[str, ...]:
    """Return a few short captions from the first rows of a store, as example queries; frequent ones if there are."""
    captions: Counter[str] = Counter()
    num_rows = 0
    for batch in Store.open(store_path).scan(["caption"]):
        captions.update(text.strip() for text in batch["caption"].to_pylist() if text and text.strip())
        num_rows += batch.num_rows
        if num_rows >= MAX_CAPTION_ROWS:
            break
    frequent = [text for text, count in captions.items() if count >= FREQUENT_CAPTION]
    candidates = frequent if len(frequent) >= NUM_EXAMPLES else list(captions)
    shortest = sorted(candidates, key=len)[: max(NUM_EXAMPLES, len(candidates) // 4)]
    return tuple(shortest[:: max(1, len(shortest) // NUM_EXAMPLES)][:NUM_EXAMPLES])


@contextmanager
def _ignore_pillow_warnings() -> Iterator[None]:
    """Ignore Pillow's warnings until the block ends.

    Warning filters belong to the process. Decoding changes them, and threads that decode at once may restore them in
    the wrong order, so the filters from before are restored at the end.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
