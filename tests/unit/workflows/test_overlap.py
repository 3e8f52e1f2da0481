"""Tests of `zebra overlap` with copies of training images in an evaluation dataset."""

import csv
import io
import json
import weakref

import numpy as np
import pytest
from PIL import Image, ImageOps

from zebra.cli.main import main
from zebra.config.overlap import OverlapConfig
from zebra.data.benchmarks.writer import write_classification
from zebra.evaluators.datasets import load_dataset
from zebra.images.distort import distort_image
from zebra.workflows import overlap

from ...tiny_model import save_tiny_model

COPIES = 15
NAMES = ("red", "blue")


def draw_scene(rng):
    """Draw random boxes: small images that differ as much as photos do."""
    pixels = np.full((80, 96, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(12):
        y, x = rng.integers(0, 70), rng.integers(0, 86)
        pixels[y : y + rng.integers(8, 40), x : x + rng.integers(8, 40)] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels)


def encode_png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Write 160 training images, a model, and 45 evaluation images, 15 of them distorted training images."""
    root, rng = tmp_path_factory.mktemp("overlap"), np.random.default_rng(0)
    train_images = [draw_scene(rng) for _ in range(160)]
    (root / "train").mkdir()
    for number, image in enumerate(train_images):
        image.save(root / "train" / f"{number:03d}.png")
    (root / "train" / "broken.png").write_bytes(b"not an image")
    copies = [distort_image(train_images[10 * number], 80, rng) for number in range(COPIES)]
    eval_images = [*copies, *(draw_scene(rng) for _ in range(30))]
    samples = ((encode_png(image), "png", number % 2) for number, image in enumerate(eval_images))
    write_classification(root / "set", samples, NAMES, ["a {c} thing"])
    save_tiny_model(root / "model")
    return root


@pytest.fixture(scope="module")
def result(directory):
    config = OverlapConfig(
        model=str(directory / "model"),
        data=str(directory / "train"),
        datasets=(str(directory / "set"),),
        out=str(directory / "out"),
        steps=60,
    )
    (overlap_result,) = overlap.run(config)
    return overlap_result


def test_marked_copies_are_matched_with_their_original(directory, result):
    with (directory / "out" / "pairs.csv").open(encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    duplicates = {
        int(pair["id"].rpartition("/s")[2]): pair["train_location"] for pair in pairs if pair["is_duplicate"] == "True"
    }
    copies = {number: location for number, location in duplicates.items() if number < COPIES}
    assert len(copies) >= 3  # several distortions at once, and a detector of 60 steps
    assert all(location.endswith(f"{10 * number:03d}.png") for number, location in copies.items())
    assert len(duplicates) - len(copies) <= 1
    assert [float(pair["cosine"]) for pair in pairs] == sorted((float(p["cosine"]) for p in pairs), reverse=True)


def test_accuracy_is_reported_on_all_clean_and_duplicate_images(directory, result):
    document = json.loads((directory / "out" / "overlap.json").read_text())[0]
    assert document["scores"]["all"]["n"] == 45
    assert document["scores"]["clean"]["n"] + document["scores"]["overlap"]["n"] == 45
    assert document["inflation"] == pytest.approx(
        document["scores"]["all"]["value"] - document["scores"]["clean"]["value"]
    )
    assert document["corrected_fisher_p_value"] == document["scores"]["fisher_p_value"]
    assert document["corrected_binomial_p_value"] == document["scores"]["binomial_p_value"]
    assert result.scores.contamination.value == pytest.approx(document["scores"]["overlap"]["n"] / 45)


@pytest.fixture(scope="module")
def untrained_pairs(directory):
    """Return is_duplicate of six modified copies and six other images, with a detector of one step: by hashes alone."""
    copies = [Image.open(directory / "train" / f"{10 * number:03d}.png").convert("RGB") for number in range(6)]
    modified = {
        "mirrored": ImageOps.mirror(copies[0]),
        "black border": ImageOps.expand(copies[1], 12, (0, 0, 0)),
        "letterbox": ImageOps.expand(copies[2], (0, 25), (255, 255, 255)),
        "gray": ImageOps.grayscale(copies[3]),
        "mirrored, bordered": ImageOps.expand(ImageOps.mirror(copies[4]), 9, (250, 250, 250)),
        "gray, mirrored, bordered": ImageOps.expand(ImageOps.grayscale(ImageOps.mirror(copies[5])), 9, 0),
    }
    rng = np.random.default_rng(7)
    images = modified | {f"other {number}": draw_scene(rng) for number in range(6)}
    samples = ((encode_png(image), "png", number % 2) for number, image in enumerate(images.values()))
    write_classification(directory / "modified", samples, NAMES, ["a {c} thing"])
    overlap.run(
        OverlapConfig(
            model=str(directory / "model"),
            data=str(directory / "train"),
            datasets=(str(directory / "modified"),),
            out=str(directory / "untrained"),
            threshold=1.01,
            steps=1,
        )
    )
    with (directory / "untrained" / "pairs.csv").open(encoding="utf-8") as file:
        by_number = {int(pair["id"].rpartition("/s")[2]): pair["is_duplicate"] for pair in csv.DictReader(file)}
    return {name: by_number[number] == "True" for number, name in enumerate(images)}


def test_mirrored_bordered_and_gray_copies_have_the_hash_of_their_original(untrained_pairs):
    assert untrained_pairs == {name: not name.startswith("other") for name in untrained_pairs}


def test_only_one_block_of_evaluation_images_is_open_at_a_time(directory, monkeypatch):
    """Each decoded image is freed before the block after the next is decoded."""
    monkeypatch.setattr(overlap, "IMAGES_PER_BLOCK", 4)
    shrink, references, num_alive = overlap._shrink, [], []

    def count_images(image):
        result = shrink(image)
        references.append(weakref.ref(result))
        num_alive.append(sum(reference() is not None for reference in references))
        return result

    monkeypatch.setattr(overlap, "_shrink", count_images)
    source = load_dataset(str(directory / "set"), "test").source
    signatures, ids = overlap._sign_images(overlap._iter_eval_images(source), lambda images: np.zeros((len(images), 2)))
    assert signatures.hash_VN.shape == (2, 45)
    assert len(set(ids)) == 45
    assert max(num_alive) <= 9


def test_the_command_prints_one_line_per_dataset(directory, capsys):
    args = ["overlap", *map(str, (directory / "model", directory / "train", directory / "set"))]
    assert main([*args, "--out", str(directory / "again"), "--steps", "2", "--threshold", "0.99999"]) == 0
    assert "have a duplicate" in capsys.readouterr().out


def test_too_few_training_images_are_refused(directory, tmp_path, capsys):
    draw_scene(np.random.default_rng(1)).save(tmp_path / "one.png")
    args = ["overlap", str(directory / "model"), str(tmp_path), str(directory / "set"), "--out", str(tmp_path / "out")]
    assert main(args) == 1
    assert "needs at least 64 training images" in capsys.readouterr().err
