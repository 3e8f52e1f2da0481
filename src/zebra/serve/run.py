"""Start and stop the server: build the parts, listen, and raise background errors."""

import gc
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from zebra.config.serve import ServeConfig
from zebra.errors import ConfigError
from zebra.serve.app import create_app
from zebra.serve.malloc import limit_arenas, release_large_blocks
from zebra.serve.metrics import WorkerFigures
from zebra.serve.server import LISTEN_BACKLOG, Server
from zebra.serve.service import Service
from zebra.serve.worker_client import WorkerClient
from zebra.serve.worker_pool import WorkerPool, threads_per_worker

GC_THRESHOLD = 100_000
"""Number of new objects that starts a garbage collection."""
SEND_BUFFER_BYTES = 256 * 2**10


def run(config: ServeConfig, on_listening: Callable[[str], None] = lambda _url: None) -> None:
    """Serve until SIGTERM or Ctrl-C, and until every accepted request is answered.

    Args:
        on_listening: Called with the URL once the socket listens; requests are answered once /readyz returns 200.

    Raises:
        ConfigError: No model is given, the device is not available, or the address is in use.
        WeightsError: The model is incomplete.
        StoreError: The store is incomplete, or was filled by another model.
        DataError: A quiz dataset is incomplete.
    """
    if config.model is None:
        raise ConfigError("no model to serve. Give one with --model, or a store with --store.")
    # LanceDB reads a changed store in dozens of threads; free memory scattered over their arenas is never returned.
    limit_arenas()
    release_large_blocks()
    background_errors: list[BaseException] = []

    def stop_on_error(error: BaseException) -> None:
        background_errors.append(error)
        server.should_exit = True

    num_threads = threads_per_worker(config.workers) if config.workers > 1 else None
    model, batch_size = config.model, config.batching.max_batch_size
    workers = [
        WorkerClient(model, batch_size, stop_on_error, device=config.device, num_threads=num_threads)
        for _ in range(config.workers)
    ]
    service = Service(WorkerPool(workers), config, on_ready=_tune_gc, on_error=stop_on_error)
    for number, worker in enumerate(workers):
        service.metrics.track_worker(number, partial(_worker_figures, worker))
    app = create_app(service, **_optional_routes(config, config.model))
    server = Server(app, service.drain, service.concurrency_limit, config.cors)
    with create_listening_socket(config.host, config.port) as listener:
        host, port = listener.getsockname()[:2]
        on_listening(f"http://{f'[{host}]' if ':' in host else host}:{port}{config.root_path}")
        server.run([listener])
    if background_errors:
        raise background_errors[0]


def _worker_figures(worker: WorkerClient) -> WorkerFigures:
    return WorkerFigures(worker.is_ready, worker.num_calls, worker.num_restarts)


def _tune_gc() -> None:
    """Freeze long-lived objects and collect garbage less often, so that collections do not stall the event loop.

    A request in progress holds about 200 objects. Traversing 256 requests took 50 ms, once a second, and found almost
    nothing: 15,000 requests left some hundred objects in cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def _optional_routes(config: ServeConfig, model_path: str) -> dict[str, Any]:
    """Return the arguments of `create_app` for the map and the quiz, if configured."""
    routes: dict[str, Any] = {}
    if config.store is not None:
        from zebra.serve.map_routes import map_router

        routes["map_routes"] = map_router(Path(config.store))
    if config.quiz:
        from zebra.serve.quiz_answers import classify_in_process
        from zebra.serve.quiz_routes import quiz_names, quiz_router

        dataset_dirs = [Path(path) for path in config.quiz]
        classify = partial(classify_in_process, model_path, config.device)
        routes["quiz_routes"] = quiz_router(dataset_dirs, classify, root_path=config.root_path)
        routes["quiz_names"] = quiz_names(dataset_dirs)
    return routes


def create_listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; ConfigError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm, 40 ms a request, only on sockets whose protocol is TCP explicitly.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it. With the default of megabytes, the progress of a slow client shows every minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.bind((host, port))
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen at {host}, port {port}: {error.strerror}. Choose another --host or --port."
        ) from error
    return listener
