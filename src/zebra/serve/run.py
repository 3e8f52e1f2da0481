"""`zebra serve` from settings to its end: everything is put together, and errors of the background come out here."""

import gc
import logging
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from zebra.config.serve import ServeConfig
from zebra.errors import ConfigError, ZebraError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.serve.app import create_app
from zebra.serve.errors import HTTPError
from zebra.serve.server import Server
from zebra.serve.service import Service
from zebra.serve.worker_client import WorkerClient

GC_THRESHOLD = 100_000
"""Objects that are made and not yet gone before they are looked through."""
log = logging.getLogger(__name__)


def run(config: ServeConfig, on_listening: Callable[[str], None] = lambda _address: None) -> None:
    """Serve until SIGTERM or Ctrl-C, and until everything that was accepted is answered.

    Args:
        on_listening: Is told the address; requests are answered once /readyz says so.

    Raises:
        ConfigError: There is no model, or the address is taken.
        WeightsError: The model is not whole.
        StoreError: The store is not whole, or of another model.
        DataError: A quiz set is not whole.
    """
    if config.model is None:
        raise ConfigError("no model to serve: name one with --model, or a store with --store")
    failures: list[BaseException] = []

    def failed(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    model = WorkerClient(config.model, config.batching.max_batch_size, failed)
    service = Service(model, config, on_ready=_tune_gc, on_error=failed)
    app = create_app(service, **_optional_routes(config, config.model))
    server = Server(app, service.drain, service.concurrency_limit)
    with create_listening_socket(config.host, config.port) as door:
        host, port = door.getsockname()[:2]
        on_listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        server.run([door])
    if failures:
        raise failures[0]


def _tune_gc() -> None:
    """Keep garbage collection from stopping everything while it looks through what is no garbage.

    What is there for good is left out, and so are requests under way, some 200 objects each: looking through 256 of
    them took 50 ms, once a second. Hardly any leave a cycle behind (some hundred objects in 15,000 requests).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def _load_quiz_model(model_path: str) -> Bundle:
    """Open a model once more, for what is not asked of its process; Refusal if it has gone meanwhile."""
    try:
        return load(model_path)
    except ZebraError as error:
        log.exception("the model cannot be opened for the quiz")
        raise HTTPError(
            503, "the model cannot be opened; the server's log says why", retry_after_seconds=60
        ) from error


def _optional_routes(config: ServeConfig, model_path: str) -> dict[str, Any]:
    """Return the map of a store and the quiz about sets, if there are any; either takes seconds to be imported."""
    parts: dict[str, Any] = {}
    if config.store is not None:
        from zebra.serve import map_routes

        parts["map"] = map_routes.map_router(Path(config.store))
    if config.quiz:
        from zebra.serve import quiz_routes

        folders = [Path(folder) for folder in config.quiz]
        parts["quiz"] = quiz_routes.quiz_router(folders, partial(_load_quiz_model, model_path))
        parts["quiz_names"] = quiz_routes.quiz_names(folders)
    return parts


def create_listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; ConfigError if it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Of a socket that does not say TCP, asyncio does not switch off waiting for more to send (Nagle): 40 ms a request.
    door = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        door.listen(1024)
    except OSError as error:
        door.close()
        raise ConfigError(
            f"cannot listen at {host}, port {port}: {error.strerror}; choose another --host or --port"
        ) from error
    return door
