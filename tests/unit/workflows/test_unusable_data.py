"""`zebra train` on data of which nothing is usable names the reasons and lists the samples."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zebra.cli.main import main
from zebra.config.data import DataConfig
from zebra.data.bad_samples import NoUsableSamples
from zebra.data.sources import open_source
from zebra.data.splits import train_val_test_split


def write_image(path: Path, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue())


def write_missing_files(folder: Path) -> Path:
    path = folder / "t.csv"
    path.write_text("path,caption\n" + "".join(f"gone/{number}.jpg,text {number}\n" for number in range(8)))
    return path


def write_imagefolder(folder: Path) -> Path:
    for number in range(8):
        write_image(folder / f"{number}.jpg", number)
    (folder / "metadata.csv").write_text("file_name,text\n" + "".join(f"{i}.jpg,text {i}\n" for i in range(8)))
    return folder


def write_damaged_images(folder: Path) -> Path:
    for number in range(8):
        (folder / f"{number}.jpg").write_bytes(b"\xff\xd8\xffbroken")
        (folder / f"{number}.txt").write_text(f"text {number}")
    return folder


@pytest.mark.parametrize(
    ("write", "reason", "detail"),
    [
        (write_missing_files, "8 unreadable file", "No such file"),
        (write_imagefolder, "8 missing caption", "metadata.csv has the captions, give it instead of the folder"),
        (write_damaged_images, "8 damaged image", ".jpg (damaged image"),
    ],
)
def test_the_error_has_counts_examples_and_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write, reason: str, detail: str
) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    folder.mkdir()
    data = write(folder)
    arguments = ["train", "--data", str(data), "--out", str(out), "--model", "tiny-resnet"]
    for _ in range(2):  # the first attempt must not prevent the second one
        assert main([*arguments, "--steps", "1", "--batch-size", "4", "--workers", "0"]) == 1
        message = capsys.readouterr().err
        assert f"8 of 8 samples are unusable in {data}: {reason}. Examples: " in message
        assert detail in message
        assert f"`zebra doctor {data}`" in message
        lines = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
        assert {line["reason"] for line in lines} == {reason.partition(" ")[2]}
        assert len(lines) == 8


def test_a_split_of_unusable_data_has_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(NoUsableSamples, match=r"8 of 8 samples .* 8 unreadable file"):
        train_val_test_split(open_source(write_missing_files(tmp_path), DataConfig()), 0.1)
