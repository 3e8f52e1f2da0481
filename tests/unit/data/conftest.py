"""Small images, and datasets of them."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from zebra.data.shard_writer import ShardWriter


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, empty at the start of each test."""
    path = tmp_path / ".cache"
    monkeypatch.setenv("ZEBRA_CACHE", str(path))
    return path


@pytest.fixture(scope="session")
def make_image() -> Callable[..., bytes]:
    """A function from a number to an encoded image of one color."""

    def encode(number: int = 0, format: str = "JPEG", size: tuple[int, int] = (24, 20)) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", size, (number % 256, number * 7 % 256, number * 13 % 256)).save(buffer, format)
        return buffer.getvalue()

    return encode


@pytest.fixture
def shards(tmp_path: Path, make_image: Callable[..., bytes]) -> Callable[..., Path]:
    """A function that writes n captioned images as shards and returns their folder."""

    def write(n: int = 6, name: str = "shards", samples_per_shard: int = 10_000) -> Path:
        with ShardWriter(tmp_path / name, samples_per_shard=samples_per_shard) as writer:
            for number in range(n):
                writer.write(f"{number:06d}", {"jpg": make_image(number), "txt": f"color {number}".encode()})
        return tmp_path / name

    return write
