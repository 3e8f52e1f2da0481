"""Fixtures: a tiny model on disk, a store, and services with a test client."""

import asyncio
import base64
import io
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from zebra.config.embed import EmbedConfig
from zebra.config.serve import ServeConfig
from zebra.images.thumbnail import resize_to_jpeg
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.serve import worker_client
from zebra.serve.app import create_app
from zebra.serve.model_client import ModelMetadata
from zebra.serve.model_runner import ModelRunner
from zebra.serve.run import create_listening_socket
from zebra.serve.server import Server
from zebra.serve.service import Service
from zebra.workflows import embed


def noise_image(seed: int, size: tuple[int, int] = (40, 30), format: str = "JPEG") -> bytes:
    """Encode an image of noise, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def request_image(data: bytes) -> dict[str, str]:
    """Return an image as requests contain it."""
    return {"data": base64.b64encode(data).decode()}


def error_message(response, status: int) -> str:
    """Check the status and the shape of an error response, and return its message."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert sorted(response.json()["error"]) == ["message", "type"]
    return response.json()["error"]["message"]


QUICK_WORKER = """
import json, socket, sys
from zebra.serve.frames import FrameDecoder, encode_frame
connection, decoder = socket.socket(fileno=int(sys.argv[1])), FrameDecoder()
with open(sys.argv[2]) as file:
    connection.sendall(b"".join(encode_frame({"call_id": 0, **json.load(file)})))
while data := connection.recv(2**20):
    for frame in decoder.feed(data):
        number = len(frame.header["texts"])
        header = {"call_id": frame.header["call_id"], "num_tokens": [3] * number, "is_truncated": [False] * number}
        connection.sendall(b"".join(encode_frame(header, [bytes(8 * number)])))
"""
"""A worker that answers texts with zeros. It starts quickly, because it imports neither torch nor a model."""


def write_metadata(path: Path, fingerprint: str = "one") -> Path:
    """Write the model of a quick worker, its metadata."""
    metadata = ModelMetadata(fingerprint, 2, 32, 8, "fp32", 1.0, None, ["a {}."], [])
    path.write_text(json.dumps(asdict(metadata)))
    return path


@pytest.fixture
def quick_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let worker clients start quick workers, and return the model of these."""
    monkeypatch.setattr(worker_client, "WORKER_ARGS", ("-c", QUICK_WORKER))
    return write_metadata(tmp_path / "metadata.json")


class InProcessClient:
    """A `ModelClient` that runs the model in threads of this process, which starts faster than `WorkerClient`."""

    is_ready = True

    def __init__(self, load: Callable[[], Bundle]) -> None:
        self.load = load

    async def __aenter__(self) -> "InProcessClient":
        self.model_executor, self.decode_executor = ThreadPoolExecutor(1), ThreadPoolExecutor(2)
        self.runner = await self.run(self.model_executor, lambda: ModelRunner(self.load()))
        self.metadata = self.runner.metadata
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.model_executor.shutdown()
        self.decode_executor.shutdown()

    async def run(self, executor, function, *args):
        return await asyncio.get_running_loop().run_in_executor(executor, function, *args)

    async def decode_image(self, data, where, max_pixels):
        return await self.run(self.decode_executor, self.runner.decode_image, data, where, max_pixels)

    async def resize_image(self, data, max_side):
        return await self.run(self.decode_executor, resize_to_jpeg, data, max_side)

    async def heat_map(self, data, where, max_pixels, text):
        return await self.run(self.model_executor, self.runner.heat_map, data, where, max_pixels, text)

    async def encode_images(self, images):
        return await self.run(self.model_executor, self.runner.encode_images, images)

    async def encode_texts(self, texts):
        return await self.run(self.model_executor, self.runner.encode_texts, texts)

    async def require_distinct_labels(self, labels):
        return await self.run(self.model_executor, self.runner.require_distinct_labels, labels)

    async def build_head(self, labels, templates):
        return await self.run(self.model_executor, self.runner.build_head, labels, templates)


@contextmanager
def running(service: Service, **routes) -> Iterator[TestClient]:
    """Run the app of a service, and wait until it is ready."""
    with TestClient(create_app(service, **routes), base_url="http://localhost") as client:
        while client.get("/readyz").status_code != 200:
            pass
        yield client


@contextmanager
def serve_in_thread(config: ServeConfig) -> Iterator[str]:
    """Yield the URL of a server of these settings, in a thread of this process."""
    service = Service(InProcessClient(partial(load, config.model)), config)
    server = Server(create_app(service), service.drain, service.concurrency_limit, config.cors)
    with create_listening_socket("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        while not service.is_ready:
            urllib.request.urlopen(f"{url}/healthz").close()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="session")
def serving(model: Path) -> Callable[..., object]:
    """Return a function that runs a service of the tiny model with the given settings."""

    def run(**settings):
        config = ServeConfig(**{"model": str(model)} | settings)
        return running(Service(InProcessClient(partial(load, config.model)), config))

    return run


@pytest.fixture(scope="module")
def client(serving) -> Iterator[TestClient]:
    """Return a client of a service without a store."""
    with serving() as ready:
        yield ready


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of twelve images; the first four are twice as wide, and every second one has a caption."""
    path = tmp_path_factory.mktemp("data") / "photos"
    path.mkdir()
    for number in range(12):
        (path / f"{number:03d}.jpg").write_bytes(noise_image(number, (80 if number < 4 else 40, 40)))
        if number % 2:
            (path / f"{number:03d}.txt").write_text(f"picture {number} of a horse\n")
    return path


@pytest.fixture(scope="module")
def store(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of these images."""
    out = tmp_path_factory.mktemp("stores") / "store"
    embed.run(EmbedConfig(model=str(model), data=str(photos), out=str(out), precision="fp32", workers=1))
    return out


@pytest.fixture(scope="module")
def store_client(serving, store: Path) -> Iterator[TestClient]:
    """Return a client of a service with the store."""
    with serving(store=str(store)) as ready:
        yield ready
