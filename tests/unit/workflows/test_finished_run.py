"""A finished run is up to date only for the data that it was trained on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zebra.cli.main import main


def write_data(folder: Path, word: str) -> Path:
    folder.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{word} {number}")
    return folder


def test_other_data_are_refused_and_a_copy_is_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def train(data: Path) -> int:
        arguments = ["--model", "tiny-resnet", "--steps", "1", "--batch-size", "4", "--workers", "0"]
        return main(["train", "--data", str(data), "--out", str(tmp_path / "run"), *arguments])

    data = write_data(tmp_path / "cats", "a cat")
    assert train(data) == 0
    shutil.copytree(data, tmp_path / "copy")
    assert train(tmp_path / "copy") == 0
    assert "already holds this run" in capsys.readouterr().out
    assert train(write_data(tmp_path / "dogs", "a dog, no")) == 1
    assert "holds a finished run on other data than" in capsys.readouterr().err
