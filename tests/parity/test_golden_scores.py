"""The built-in sets and the protocols on them give the scores they gave when this file was written.

The reference is a predictor without training or randomness: a picture's 12 × 12 colours as a vector, a class as the
mean of its training pictures. Pixels are those of the pinned Pillow and numpy, so top-1 is exact; the probe's optimum
is not.
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
SIDE = 12


def colours(benchmark):
    vectors, labels, ids = [], [], []
    for index in range(len(benchmark.source)):
        record = benchmark.source.read(index)
        image = Image.open(io.BytesIO(record.image)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
        vectors.append(np.asarray(image, np.float32).ravel() - 127.5)
        labels.append(record.label)
        ids.append(record.id)
    return Embeddings(normalize_rows(np.stack(vectors)), tuple(ids), np.array(labels, np.int64), "colours")


def measure(name):
    test = load_dataset(name)
    images, examples = colours(test), colours(load_dataset(name, "train"))
    classes = len(test.classnames)
    means = np.stack(
        [
            examples.vectors[examples.labels == label].mean(axis=0)
            if (examples.labels == label).any()
            else -images.vectors.mean(axis=0)
            for label in range(classes)
        ]
    )
    scores = classify_zero_shot(images, normalize_rows(means)).scores()
    probe = fit_linear_probe(examples, images, classes).result.scores()["top1"].value
    return {
        "n": scores["top1"].n,
        "digest": test.source.digest[:16],
        "top1": scores["top1"].value,
        "mean_per_class": scores["mean_per_class"].value,
        "probe": probe,
    }


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_scores_equal_the_recorded_ones(name):
    expected, found = GOLDEN[name], measure(name)
    assert (found["n"], found["digest"]) == (expected["n"], expected["digest"])
    assert found["top1"] == pytest.approx(expected["top1"], abs=1e-9)
    assert found["mean_per_class"] == pytest.approx(expected["mean_per_class"], abs=1e-9)
    assert found["probe"] == pytest.approx(expected["probe"], abs=0.01)
