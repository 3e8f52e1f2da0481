"""Fixtures: a tiny model on disk, images, and a function that embeds them."""

import io
import json
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zebra.config.embed import EmbedConfig
from zebra.workflows import embed as workflow


def encoded(number: int, size: tuple[int, int] = (40, 30), format: str = "JPEG") -> bytes:
    """Return an encoded image of noise; each number gives another image."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


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


@pytest.fixture
def cluster(monkeypatch):
    """Replace the cluster by one worker that counts requests and can fail at one of them."""
    state = {"batches": 0, "fail_at": None}

    class LocalEngine:
        def map(self, function, requests):
            function = pickle.loads(pickle.dumps(function))
            for request in requests:
                state["batches"] += 1
                if state["batches"] == state["fail_at"]:
                    raise KeyError("the worker has died")
                yield pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(request)))))

    monkeypatch.setattr("zebra.workflows.embed.require_ray", lambda purpose: None)
    monkeypatch.setattr("zebra.embed.ray.open_ray", lambda num_workers, uses_gpus: nullcontext(LocalEngine()))
    return state
