"""Every command that reads a folder reports the same files as not read, in text and in JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zebra.cli.main import main
from zebra.data import inspection
from zebra.data.benchmarks.class_folders import read_class_folders

LINE = "2 files not read: 1 .psd (cat/c.psd), 1 no suffix (dog/README). Convert PSD images to JPEG or PNG"
ENTRIES = [
    {"reason": ".psd", "count": 1, "example": "cat/c.psd"},
    {"reason": "no suffix", "count": 1, "example": "dog/README"},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folders of two classes with captions, and two files of other kinds."""
    root = tmp_path / "photos"
    for number in range(8):
        folder = root / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{folder.name} {number}")
    (root / "cat" / "c.psd").write_bytes(b"x")
    (root / "dog" / "README").write_text("x")
    return root


def test_train_prints_the_line_before_the_first_step_and_embed_after(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--out", str(tmp_path / "run"), "--model", "tiny-resnet", "--steps", "1", "--batch-size", "4"]
    assert main(["train", "--data", str(data), *arguments, "--workers", "0"]) == 0
    assert f"{data}: {LINE}\n" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "data.json").read_text())["ignored"] == ENTRIES
    embed = ["embed", str(tmp_path / "run" / "model"), str(data), "--out", str(tmp_path / "store"), "--workers", "1"]
    assert main(embed) == 0
    assert LINE in capsys.readouterr().out
    assert main([*embed, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ignored"] == ENTRIES


def test_doctor_prints_the_line(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "THROUGHPUT_SECONDS", 0.02)
    monkeypatch.setattr(inspection, "usable_cores", lambda: 1)
    assert main(["doctor", str(data)]) == 0
    assert LINE in capsys.readouterr().out
    assert main(["doctor", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ignored"] == ENTRIES


def test_evaluate_has_a_note(data: Path) -> None:
    for path in data.rglob("*.txt"):
        path.unlink()
    assert read_class_folders(data).notes == (LINE,)
