"""The built-in datasets and the protocols on them give the recorded scores.

The model has no training and no randomness: an image is the vector of its 12 × 12 colors, a class the mean of its
training images. Pixels depend on the pinned Pillow and numpy, so top-1 is exact; the optimum of the probe is not.
"""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zebra.evaluators.datasets import load_dataset
from zebra.protocols.linear_probe import fit_linear_probe
from zebra.protocols.prompts import normalize_rows
from zebra.protocols.zero_shot import classify_zero_shot
from zebra.values import Embeddings

GOLDEN = json.loads(Path(__file__).with_name("golden_scores.json").read_text(encoding="utf-8"))
IMAGE_SIZE = 12


def embed_colors(benchmark):
    vectors, labels, ids = [], [], []
    for index in range(len(benchmark.source)):
        record = benchmark.source.read(index)
        image = (
            Image.open(io.BytesIO(record.image)).convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
        )
        vectors.append(np.asarray(image, np.float32).ravel() - 127.5)
        labels.append(record.label)
        ids.append(record.id)
    return Embeddings(normalize_rows(np.stack(vectors)), tuple(ids), np.array(labels, np.int64), "colors")


def evaluate(name):
    test = load_dataset(name)
    images, train = embed_colors(test), embed_colors(load_dataset(name, "train"))
    num_classes = len(test.classnames)
    means = np.stack(
        [
            train.vectors[train.labels == label].mean(axis=0)
            if (train.labels == label).any()
            else -images.vectors.mean(axis=0)
            for label in range(num_classes)
        ]
    )
    scores = classify_zero_shot(images, normalize_rows(means)).scores()
    probe = fit_linear_probe(train, images, num_classes).result.scores()["top1"].value
    return {
        "n": scores["top1"].n,
        "digest": test.source.digest[:16],
        "top1": scores["top1"].value,
        "mean_per_class": scores["mean_per_class"].value,
        "probe": probe,
    }


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_scores_equal_the_recorded_ones(name):
    expected, result = GOLDEN[name], evaluate(name)
    assert (result["n"], result["digest"]) == (expected["n"], expected["digest"])
    assert result["top1"] == pytest.approx(expected["top1"], abs=1e-9)
    assert result["mean_per_class"] == pytest.approx(expected["mean_per_class"], abs=1e-9)
    assert result["probe"] == pytest.approx(expected["probe"], abs=0.01)
