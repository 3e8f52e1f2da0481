"""`zebra doctor` finds planted faults of evaluation datasets."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zebra.cli.main import main
from zebra.config.doctor import DoctorConfig
from zebra.data.benchmarks.writer import write_classification
from zebra.errors import DataError
from zebra.workflows import doctor
from zebra.workflows.finding import Finding


def draw(seed: int) -> bytes:
    """Return an image of random blocks, which no other one resembles."""
    blocks = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks).resize((40, 40), Image.Resampling.NEAREST).save(buffer, "png")
    return buffer.getvalue()


def write(folder: Path, split: str, samples: Sequence[tuple[bytes, int]], classnames: Sequence[str]) -> None:
    write_classification(
        folder, [(image, "png", label) for image, label in samples], classnames, ["a photo of a {c}"], split
    )


def inspect(target: Path | str, **settings: Any) -> dict[str, Finding]:
    findings = doctor.run(DoctorConfig(target=str(target), **settings))
    assert isinstance(findings, list)
    return {finding.name: finding for finding in findings}


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Ten images of two classes in each split, without a fault."""
    for split, first in (("train", 0), ("test", 100)):
        write(tmp_path / "animals", split, [(draw(first + n), n % 2) for n in range(10)], ["horse", "zebra"])
    return tmp_path / "animals"


def test_a_dataset_without_faults_is_in_order(animals: Path) -> None:
    findings = inspect(animals)
    assert all(finding.is_ok for finding in findings.values())
    assert findings["test"].detail == "10 images"
    assert not {"exact copies", "near copies", "one color", "unreadable", "test in train"} & set(findings)


def test_images_that_cannot_be_read_are_counted_by_reason_with_their_place(tmp_path: Path) -> None:
    samples = [(draw(0), 0), (b"", 1), (draw(1)[:150], 0), (b"no image", 1), (draw(2), 1)]
    write(tmp_path / "damaged", "test", samples, ["horse", "zebra"])
    finding = inspect(tmp_path / "damaged")["unreadable"]
    assert not finding.is_ok
    assert "1 empty file" in finding.detail
    assert "1 not an image" in finding.detail
    assert "s0000003" in finding.detail


def test_copies_within_and_between_splits_are_found(tmp_path: Path) -> None:
    folder, gray = tmp_path / "copies", Image.new("RGB", (40, 40), (90, 90, 90))
    buffer = io.BytesIO()
    gray.save(buffer, "png")
    changed = Image.open(io.BytesIO(draw(3)))
    changed.putpixel((0, 0), (0, 0, 0))
    near = io.BytesIO()
    changed.save(near, "png")
    write(folder, "train", [(draw(n), 0) for n in range(5)], ["horse", "zebra"])
    test = [(draw(3), 0), (draw(3), 1), (near.getvalue(), 0), (draw(50), 1), (buffer.getvalue(), 1)]
    write(folder, "test", test, ["horse", "zebra"])
    findings = inspect(folder)
    assert findings["exact copies"].detail.startswith("1 images: ")
    assert "s0000001" in findings["labels differ"].detail
    assert not findings["labels differ"].is_ok
    assert findings["near copies"].detail.startswith("2 pairs")
    assert findings["one color"].detail.startswith("1 images: ")
    between = findings["test in train"]
    assert between.detail.startswith("2 exact copies, 1 pairs of near ones")
    assert not between.is_ok


def test_names_that_differ_in_case_and_classes_without_images_are_noted(tmp_path: Path) -> None:
    write(tmp_path / "names", "test", [(draw(0), 0), (draw(1), 1)], ["crane", "Crane", "heron"])
    findings = inspect(tmp_path / "names")
    assert findings["class names"].detail == "1 occur twice, but for case: crane"
    assert "heron" in findings["empty classes"].detail


def test_a_dataset_of_the_catalog_is_compared_with_it(tmp_path: Path) -> None:
    write(tmp_path / "wds_vtab-pets", "test", [(draw(0), 0), (draw(1), 1)], ["horse", "zebra"])
    write(tmp_path / "pets", "train", [(draw(2), 0), (draw(3), 1)], ["horse", "zebra"])
    findings = inspect("pets", data_root=str(tmp_path))
    assert findings["license"].detail == "CC-BY-SA-4.0"
    assert findings["classes"].detail == "2; the catalog has 37"
    assert (findings["train"].detail, findings["train"].is_ok) == ("2 images; the catalog has 3,680", False)
    assert findings["test"].detail == "not here; the catalog has 3,669 images"
    assert "pets, wds_vtab-pets" in findings["copies"].detail


def test_terms_and_known_errors_are_shown_and_a_half_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "wds_fer2013"
    write(folder, "test", [(draw(n), n % 7) for n in range(7)], [f"face {n}" for n in range(7)])
    (folder / "test" / "nshards.txt").write_text("2")
    findings = inspect("fer2013", data_root=str(tmp_path))
    assert "kaggle.com" in findings["terms"].detail
    assert "Goodfellow" in findings["known errors"].detail
    assert not findings["test"].is_ok
    assert "nshards" in findings["test"].detail


def test_a_suite_lists_what_is_here_missing_and_damaged(tmp_path: Path) -> None:
    write(tmp_path / "imagenet_r", "test", [(draw(0), 0), (draw(1), 1)], ["horse", "zebra"])
    write(tmp_path / "imagenet_a", "test", [(draw(0), 0), (draw(1), 1)], ["horse", "zebra"])
    (tmp_path / "imagenet_a" / "test" / "0.tar").write_bytes(b"")
    findings = inspect("suite:robustness", data_root=str(tmp_path))
    assert "the catalog has 30,000" in findings["imagenet_r"].detail
    assert not findings["imagenet_a"].is_ok
    assert findings["objectnet"].detail.startswith("missing: ")
    assert "objectnet.dev" in findings["objectnet"].detail
    assert "of 7 datasets are here" in findings["suite:robustness"].detail


def test_the_first_images_of_a_large_dataset_are_enough(animals: Path) -> None:
    assert inspect(animals, max_samples=4)["images"].detail == "the first 4 can be decoded"


def test_an_unknown_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dataset of that name"):
        inspect("qqqq", data_root=str(tmp_path))
    with pytest.raises(DataError, match="nowhere is not a directory"):
        inspect("pets", data_root=str(tmp_path / "nowhere"))


def test_the_command_fails_if_the_data_does(animals: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(animals)]) == 0
    assert "ok  test             10 images" in capsys.readouterr().out
    assert main(["doctor", "suite:robustness", "--data-root", str(animals)]) == 1
