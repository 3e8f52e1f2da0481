"""Fixtures: the built wheel, installed apart from the source tree and run as a process."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from .. import forkserver

ROOT = Path(__file__).parents[2]
COLORS = {"red": (220, 30, 30), "blue": (30, 60, 220), "green": (20, 160, 60), "yellow": (240, 210, 20)}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Build the wheel with the tools already installed."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """Install the wheel alone into a folder; its dependencies are those of the test environment."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    return target


@pytest.fixture(scope="session")
def environment(installed, tmp_path_factory):
    own = {"PYTHONPATH": str(installed), "ZEBRA_CACHE": str(tmp_path_factory.mktemp("cache"))}
    return os.environ | own | {"COLUMNS": "100"}


@pytest.fixture(scope="session")
def zebra(installed, environment):
    """Run `zebra ARGS…` and return the finished process; a wrong exit code fails with its output."""

    def run(*args, cwd, code=0, timeout=300):
        command = [sys.executable, str(installed / "bin" / "zebra"), *map(str, args)]
        process = forkserver.run(command, cwd=cwd, env=environment, timeout=timeout)
        assert process.returncode == code, f"exit {process.returncode}\n{process.stdout}\n{process.stderr}"
        return process

    return run


def draw_shape(color, shape, seed, size=(64, 64)):
    """Draw one colored shape on a light background."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(200, 256, 3)))
    left, top = rng.integers(4, 20, 2)
    box = [int(left), int(top), int(left) + 36, int(top) + 36]
    draw = ImageDraw.Draw(image)
    (draw.ellipse if shape == "circle" else draw.rectangle)(box, fill=COLORS[color])
    return image


def encode_image(image, suffix):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if suffix == "jpg" else "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def pairs():
    """Return 96 captioned images, JPEG and PNG in turn: (key, suffix, bytes, caption)."""
    pairs = []
    for i in range(96):
        color, shape = list(COLORS)[i % 4], ("circle", "square")[i // 4 % 2]
        suffix = ("jpg", "png")[i % 2 if i % 3 else 0]
        pairs.append(
            (f"{i:04d}", suffix, encode_image(draw_shape(color, shape, i), suffix), f"a photo of a {color} {shape}")
        )
    return pairs
