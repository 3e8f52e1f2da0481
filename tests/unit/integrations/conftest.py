"""Images that adapters embed, and their vectors by zebra."""

import importlib
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from zebra.errors import MissingExtra
from zebra.pretrained.bundle import Bundle

TEXTS = ["a photo of a horse", "two spotted dogs in the snow"]


def import_adapter(name: str) -> ModuleType:
    """Import `zebra.integrations.NAME`, or skip the module if its library is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the library and its dependencies
        try:
            return importlib.import_module(f"zebra.integrations.{name}")
        except MissingExtra as error:
            pytest.skip(str(error), allow_module_level=True)


@pytest.fixture(scope="session")
def image_paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write three images and return their paths; the second has a space and a percent sign in its name."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = [folder / name for name in ("one.png", "50 % off.jpg", "three.webp")]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(path)
    return [str(path) for path in paths]


@pytest.fixture(scope="session")
def image_vectors(clip: Bundle, image_paths: list[str]) -> np.ndarray:
    """Return the vectors [3, E] of the images."""
    return clip.encode_images(image_paths).numpy()


@pytest.fixture(scope="session")
def text_vectors(clip: Bundle) -> np.ndarray:
    """Return the vectors [2, E] of TEXTS."""
    return clip.encode_texts(TEXTS).numpy()


@pytest.fixture
def broken_image(tmp_path: Path) -> str:
    """Write a file that is no image and return its path."""
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no image")
    return str(path)
