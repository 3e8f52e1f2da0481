"""A pool of drawn images with captions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_pool(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes images `0.png`, `1.png`, … with captions and returns their folder."""

    def make(captions: list[str], sizes: dict[int, tuple[int, int]] | None = None, name: str = "pool") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for number, caption in enumerate(captions):
            width, height = (sizes or {}).get(number, (40, 30))
            pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            (folder / f"{number}.txt").write_text(caption, encoding="utf-8")
        return folder

    return make
