"""Fixtures: a tiny model on disk, images, and a function that embeds them."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zebra.config.embed import EmbedConfig
from zebra.config.model import ModelConfig, TextConfig, VisionTransformerConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer
from zebra.workflows import embed as workflow


def encoded(number: int, size: tuple[int, int] = (40, 30), format: str = "JPEG") -> bytes:
    """Return an encoded image of noise; each number gives another image."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


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
    return write_model(tmp_path_factory.mktemp("models") / "model", seed=0)


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes numbered images to a folder; every second one has a caption."""

    def write(numbers=range(6), name: str = "photos") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for number in numbers:
            (folder / f"{number:03d}.jpg").write_bytes(encoded(number))
            if number % 2:
                (folder / f"{number:03d}.txt").write_text(f"image {number}\n")
        return folder

    return write


@pytest.fixture
def embed(tmp_path: Path, model: Path) -> Callable[..., workflow.EmbedResult]:
    """Return a function that embeds data in fp32 into a store."""

    def run(data: Path | str, out: str = "store", callback=lambda _progress: None, **options) -> workflow.EmbedResult:
        config = {"model": str(model), "precision": "fp32", "batch_size": 4, "workers": 2} | options
        return workflow.run(EmbedConfig(data=str(data), out=str(tmp_path / out), **config), callback)

    return run


@pytest.fixture
def skips(tmp_path: Path) -> Callable[[], list[dict[str, str]]]:
    """Return a function that reads the list of unusable images."""
    return lambda: [json.loads(line) for line in (tmp_path / "store" / "skipped.jsonl").read_text().splitlines()]
