"""A tiny model on disk, and a service around it that runs while a test asks it."""

import asyncio
import base64
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from zebra.config.embed import EmbedConfig
from zebra.config.model import ModelConfig, TextConfig, VisionTransformerConfig
from zebra.config.serve import ServeConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.serve.app import create_app
from zebra.serve.model_runner import ModelRunner
from zebra.serve.service import Service
from zebra.text.bpe import BPETokenizer
from zebra.workflows import embed


def encoded(number: int, size: tuple[int, int] = (40, 30), format: str = "JPEG") -> bytes:
    """Encode noise of its own for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def sent(data: bytes) -> dict[str, str]:
    """Return a picture as requests have it."""
    return {"data": base64.b64encode(data).decode()}


def write_model(folder: Path, seed: int) -> Path:
    """Save a model with random weights."""
    torch.manual_seed(seed)
    tokenizer = BPETokenizer.train(["a photo of a horse"] * 5, 520, 16)
    config = ModelConfig(
        embed_dim=16,
        image_size=32,
        vision=VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16),
        text=TextConfig(width=64, layers=1, heads=1, vocab_size=tokenizer.vocab_size, context_length=16),
    )
    Bundle(CLIP(config), tokenizer, Preprocess(image_size=32)).save(folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny", seed=0)


@pytest.fixture(scope="session")
def clip(model: Path) -> Bundle:
    """Return the model, as it answers alone."""
    return load(model)


class Here:
    """A model in threads of this process: what `ModelProcess` is, without the seconds that one takes to start."""

    is_ready = True

    def __init__(self, load: Callable[[], Bundle]) -> None:
        self.load = load

    async def __aenter__(self) -> "Here":
        self.one, self.some = ThreadPoolExecutor(1), ThreadPoolExecutor(2)
        self.runner = await self.run(self.one, lambda: ModelRunner(self.load()))
        self.metadata = self.runner.metadata
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.one.shutdown()
        self.some.shutdown()

    async def run(self, threads, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

    async def decode_image(self, data, where):
        return await self.run(self.some, self.runner.decode_image, data, where)

    async def encode_images(self, images):
        return await self.run(self.one, self.runner.encode_images, images)

    async def encode_texts(self, texts):
        return await self.run(self.one, self.runner.encode_texts, texts)

    async def build_head(self, labels, templates):
        return await self.run(self.one, self.runner.build_head, labels, templates)


@contextmanager
def running(service: Service, **parts) -> Iterator[TestClient]:
    """Run an app around a service, and wait until it is ready."""
    with TestClient(create_app(service, **parts), base_url="http://localhost") as client:
        while client.get("/readyz").status_code != 200:
            pass
        yield client


@pytest.fixture(scope="session")
def serving(model: Path) -> Callable[..., object]:
    """A function that runs a service of the tiny model with some settings."""

    def run(**settings):
        config = ServeConfig(**{"model": str(model)} | settings)
        return running(Service(Here(partial(load, model)), config))

    return run


@pytest.fixture(scope="module")
def client(serving) -> Iterator[TestClient]:
    """Return a client of a service without a store."""
    with serving() as ready:
        yield ready


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of twelve pictures; the first four are twice as wide, and every second one has a caption."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:03d}.jpg").write_bytes(encoded(number, (80 if number < 4 else 40, 40)))
        if number % 2:
            (folder / f"{number:03d}.txt").write_text(f"picture {number} of a horse\n")
    return folder


@pytest.fixture(scope="module")
def store(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of these pictures."""
    out = tmp_path_factory.mktemp("stores") / "store"
    embed.run(EmbedConfig(model=str(model), data=str(photos), out=str(out), precision="fp32", workers=1))
    return out


@pytest.fixture(scope="module")
def gallery(serving, store: Path) -> Iterator[TestClient]:
    """Return a client of a service with the store."""
    with serving(store=str(store)) as ready:
        yield ready
