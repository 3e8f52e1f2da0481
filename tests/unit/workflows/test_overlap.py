"""Copies of training pictures hidden in an evaluation set are found, and what they did to accuracy is told."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from zebra.cli.main import main
from zebra.config.model import ModelConfig, TextConfig, VisionTransformerConfig
from zebra.config.overlap import OverlapConfig
from zebra.data.benchmarks.writer import write_classification
from zebra.images.distort import distort_image
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer
from zebra.workflows import overlap

COPIES = 15
NAMES = ("red", "blue")


def scene(rng):
    """Draw some boxes of many colours: pictures as different as photographs, small."""
    pixels = np.full((80, 96, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(12):
        y, x = rng.integers(0, 70), rng.integers(0, 86)
        pixels[y : y + rng.integers(8, 40), x : x + rng.integers(8, 40)] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels)


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Write 160 training pictures, a model, and 45 evaluation pictures, of which 15 are distorted training pictures."""
    root, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    training = [scene(rng) for _ in range(160)]
    (root / "train").mkdir()
    for number, image in enumerate(training):
        image.save(root / "train" / f"{number:03d}.png")
    (root / "train" / "broken.png").write_bytes(b"not a picture")
    copies = [distort_image(training[10 * number], 80, rng) for number in range(COPIES)]
    pictures = [*copies, *(scene(rng) for _ in range(30))]
    samples = ((encoded(image), "png", number % 2) for number, image in enumerate(pictures))
    write_classification(root / "set", samples, NAMES, ["a {c} thing"])
    torch.manual_seed(0)
    words = BPETokenizer.train(["a red thing", "a blue thing"] * 3, 520, 16)
    text = TextConfig(width=64, layers=1, heads=1, vocab_size=words.vocab_size, context_length=16)
    vision = VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16)
    config = ModelConfig(embed_dim=16, image_size=32, vision=vision, text=text)
    Bundle(CLIP(config), words, Preprocess(image_size=32)).save(root / "model")
    return root


@pytest.fixture(scope="module")
def result(world):
    config = OverlapConfig(
        model=str(world / "model"),
        data=str(world / "train"),
        datasets=(str(world / "set"),),
        out=str(world / "out"),
        steps=150,
    )
    (found,) = overlap.run(config)
    return found


def test_most_copies_are_matched_with_their_original(world, result):
    with (world / "out" / "pairs.csv").open(encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    marked = {
        int(pair["id"].rpartition("/s")[2]): pair["train_location"]
        for pair in pairs
        if pair["is_duplicate"] == "True"
    }
    true = {number: place for number, place in marked.items() if number < COPIES}
    assert len(true) >= 8
    assert sum(place.endswith(f"{10 * number:03d}.png") for number, place in true.items()) >= 0.9 * len(true)
    assert len(marked) - len(true) <= 3
    assert [float(pair["cosine"]) for pair in pairs] == sorted(
        (float(p["cosine"]) for p in pairs), reverse=True
    )


def test_accuracy_is_reported_on_all_clean_and_duplicate_images(world, result):
    held = json.loads((world / "out" / "overlap.json").read_text())[0]
    assert held["scores"]["all"]["n"] == 45
    assert held["scores"]["clean"]["n"] + held["scores"]["overlap"]["n"] == 45
    assert held["inflation"] == pytest.approx(
        held["scores"]["all"]["value"] - held["scores"]["clean"]["value"]
    )
    assert 0 <= held["corrected_p_value"] <= 1
    assert result.scores.contamination.value == pytest.approx(held["scores"]["overlap"]["n"] / 45)


def test_the_command_prints_one_line_per_dataset(world, capsys):
    told = ["overlap", *map(str, (world / "model", world / "train", world / "set"))]
    assert main([*told, "--out", str(world / "again"), "--steps", "2", "--threshold", "0.99999"]) == 0
    assert "have a duplicate" in capsys.readouterr().out


def test_too_few_training_images_are_refused(world, tmp_path, capsys):
    scene(np.random.default_rng(1)).save(tmp_path / "one.png")
    told = [
        "overlap",
        str(world / "model"),
        str(tmp_path),
        str(world / "set"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(told) == 1
    assert "fewer than a batch" in capsys.readouterr().err
