"""CLIP_benchmark's evaluation with open_clip and zebra's give the same scores on the same folders and weights.

Reference: CLIP_benchmark 1.6.2 (its zero-shot classification and retrieval) with open_clip 3.3.0. Ten generated
datasets in its layout, read here with tarfile instead of webdataset; a random model, written in open_clip's layout.
Tolerance: 1e-6, on scores that are all between 0 and 1. The differences that are known have tests of their own in
test_clip_benchmark.py: ties, classes without an image in mean average precision, top-5 of five classes.
"""

import importlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny_model import build_tiny_model

from zebra.config.evaluate import EvaluateConfig
from zebra.data.benchmarks.clip_benchmark import read_lines
from zebra.data.benchmarks.writer import write_classification, write_multilabel, write_retrieval
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.run_tasks import evaluate_dataset
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.open_clip.layout import write_open_clip
from zebra.pretrained.weights import published_state_dict

NUM_IMAGES = 60
NEAR = 1e-6
WORDS = ("horse", "cat", "dogs", "snow", "striped", "spotted", "photo", "two", "in", "the")
CLASSIFICATION: dict[str, tuple[tuple[str, ...], tuple[str, ...], list[float]]] = {
    "two": (("horse", "cat"), ("a photo of a {c}",), [0.5, 0.5]),
    "three": (("horse", "cat", "dogs"), ("a {c}", "{c}"), [0.7, 0.2, 0.1]),
    "five": (WORDS[:5], ("a photo of a {c}", "the {c} in the snow", "{c}"), [0.2] * 5),
    "ten": (WORDS, ("a {c}",), [0.1] * 10),
    "unbalanced": (WORDS[:7], ("{c}", "two {c}"), [0.6, 0.15, 0.1, 0.05, 0.04, 0.03, 0.03]),
    "a class without images": (WORDS[:8], ("a {c}",), [0.3, 0.0, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]),
    "an empty name": (("near", "", "far", "cat", "dogs", "snow"), ("{c} shapes",), [1 / 6] * 6),
}
"""Class names, templates and class frequencies."""
RETRIEVAL = {"three captions each": (3, 3), "one to four captions": (1, 4)}


@pytest.fixture(scope="module")
def peers(open_clip: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The same model in zebra and in open_clip, and CLIP_benchmark's metrics."""
    for package in ("clip_benchmark", "tqdm"):
        pytest.importorskip(package)
    metrics = {
        name: importlib.import_module(f"clip_benchmark.metrics.{name}")
        for name in ("zeroshot_classification", "zeroshot_retrieval")
    }
    # NumPy 2.4 no longer converts an array of one element to a number, which their accuracy relies on.
    metrics["zeroshot_classification"].float = lambda value: np.asarray(value).item()
    clip = build_tiny_model()
    folder = tmp_path_factory.mktemp("open_clip")
    write_open_clip(
        folder,
        config=clip.model.config,
        tensors=published_state_dict(clip.model),
        preprocess=clip.preprocess,
        tokenizer=clip.tokenizer,
    )
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    return SimpleNamespace(clip=clip, model=model.eval(), transform=transform, tokenizer=tokenizer, **metrics)


class TarLoader:
    """Batches of the samples of a folder in CLIP_benchmark's layout."""

    def __init__(self, folder: Path, transform: Any, suffix: str, classnames: Sequence[str] = ()) -> None:
        self.dataset = SimpleNamespace(classes=classnames)
        self.samples: dict[str, dict[str, bytes]] = {}
        for path in sorted((folder / "test").glob("*.tar"), key=lambda path: int(path.stem)):
            with tarfile.open(path) as tar:
                for member in tar:
                    key, _, field = member.name.partition(".")
                    file = tar.extractfile(member)
                    assert file is not None
                    self.samples.setdefault(key, {})[field] = file.read()
        self.transform, self.suffix = transform, suffix

    def __iter__(self) -> Iterator[tuple[torch.Tensor, Any]]:
        rows = list(self.samples.values())
        for start in range(0, len(rows), 25):
            batch = rows[start : start + 25]
            images = torch.stack([self.transform(Image.open(io.BytesIO(row["png"])).convert("RGB")) for row in batch])
            yield images, self.targets([row[self.suffix] for row in batch])

    def targets(self, values: list[bytes]) -> Any:
        if self.suffix == "cls":
            return torch.tensor([int(value) for value in values])
        if self.suffix == "npy":
            return torch.from_numpy(np.stack([np.load(io.BytesIO(value)) for value in values]))
        return [value.decode().splitlines() for value in values]


def draw_images(rng: np.random.Generator) -> Iterator[bytes]:
    for _ in range(NUM_IMAGES):
        height, width = rng.integers(20, 100, 2)
        pixels = (rng.integers(0, 256, (1, 1, 3)) + rng.integers(-60, 60, (height, width, 3))).clip(0, 255)
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        yield buffer.getvalue()


def evaluate(clip: Bundle, folder: Path, task: str) -> dict[str, float]:
    config = EvaluateConfig(model="", datasets=(str(folder),), out="")
    results = {result.task: result for result in evaluate_dataset(clip, load_dataset(folder), str(folder), config)}
    return {metric: score.value for metric, score in results[task].scores.items()}


def classify(peers: SimpleNamespace, folder: Path, suffix: str) -> dict[str, float]:
    classnames = list(read_lines(folder / "classnames.txt", allow_empty=True))
    return peers.zeroshot_classification.evaluate(
        peers.model,
        TarLoader(folder, peers.transform, suffix, classnames),
        peers.tokenizer,
        classnames,
        list(read_lines(folder / "zeroshot_classification_templates.txt")),
        "cpu",
        amp=False,
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("name", CLASSIFICATION)
def test_zero_shot_classification(peers: SimpleNamespace, tmp_path: Path, name: str) -> None:
    classnames, templates, frequencies = CLASSIFICATION[name]
    rng = np.random.default_rng(len(name))
    labels = rng.choice(len(classnames), NUM_IMAGES, p=frequencies)
    labels[0] = len(classnames) - 1  # an empty name is read if the labels need all lines
    samples = zip(draw_images(rng), ["png"] * NUM_IMAGES, labels.tolist(), strict=True)
    write_classification(tmp_path / "set", samples, classnames, templates, samples_per_shard=7)
    theirs, ours = classify(peers, tmp_path / "set", "cls"), evaluate(peers.clip, tmp_path / "set", "zero-shot")
    assert 0 < theirs["acc1"] < 1
    assert ours["top1"] == pytest.approx(theirs["acc1"], abs=NEAR)
    assert ours["mean_per_class"] == pytest.approx(theirs["mean_per_class_recall"], abs=NEAR)
    if len(classnames) > 5:
        assert ours["top5"] == pytest.approx(theirs["acc5"], abs=NEAR)


def test_multilabel_classification(peers: SimpleNamespace, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels_NC = rng.random((NUM_IMAGES, 6)) < 0.3
    samples = zip(draw_images(rng), ["png"] * NUM_IMAGES, labels_NC, strict=True)
    write_multilabel(tmp_path / "set", samples, WORDS[:6], ["a photo of a {c}"], samples_per_shard=20)
    theirs, ours = classify(peers, tmp_path / "set", "npy"), evaluate(peers.clip, tmp_path / "set", "zero-shot")
    assert ours["map"] == pytest.approx(theirs["mean_average_precision"], abs=NEAR)


@pytest.mark.parametrize("name", RETRIEVAL)
def test_retrieval(peers: SimpleNamespace, tmp_path: Path, name: str) -> None:
    low, high = RETRIEVAL[name]
    rng = np.random.default_rng(1)
    captions = [
        [" ".join([*rng.choice(WORDS, 4), str(10 * number + copy)]) for copy in range(rng.integers(low, high + 1))]
        for number in range(NUM_IMAGES)
    ]
    samples = zip(draw_images(rng), ["png"] * NUM_IMAGES, captions, strict=True)
    write_retrieval(tmp_path / "set", samples, samples_per_shard=20)
    theirs = peers.zeroshot_retrieval.evaluate(
        peers.model,
        TarLoader(tmp_path / "set", peers.transform, "txt"),
        peers.tokenizer,
        "cpu",
        amp=False,
        recall_k_list=[1, 5, 10],
    )
    ours = evaluate(peers.clip, tmp_path / "set", "retrieval")
    for k in (1, 5, 10):
        assert ours[f"image_to_text_recall@{k}"] == pytest.approx(theirs[f"text_retrieval_recall@{k}"], abs=NEAR)
        assert ours[f"text_to_image_recall@{k}"] == pytest.approx(theirs[f"image_retrieval_recall@{k}"], abs=NEAR)
    assert 0 < theirs["text_retrieval_recall@10"] < 1
    datacomp = 0.5 * (theirs["text_retrieval_recall@1"] + theirs["image_retrieval_recall@1"])
    assert ours["mean_recall@1"] == pytest.approx(datacomp, abs=NEAR)
