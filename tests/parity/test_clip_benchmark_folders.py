"""CLIP_benchmark 1.6.2 reads the folders that zebra writes, and zebra those of its converter.

With the equal metrics of `test_clip_benchmark.py` and the equal vectors of `test_open_clip.py`, the scores are equal.
"""

import importlib
import io
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from zebra.data.benchmarks.clip_benchmark import read_classification, read_multilabel, read_retrieval
from zebra.data.benchmarks.writer import write_classification, write_multilabel, write_retrieval
from zebra.data.sources import Source

pytestmark = [pytest.mark.usefixtures("torchvision"), pytest.mark.filterwarnings("ignore")]  # inside their libraries
CLASSES, TEMPLATES = ["wild horse", "chat noir", "Škoda"], ["a photo of a {c}.", "{c}, drawn"]
LABELS = [0, 2, 1, 1, 0]
LABELS_NC = np.eye(3, dtype=bool)[LABELS] | np.eye(3, dtype=bool)[[1, 1, 2, 0, 0]]
CAPTIONS = [["a horse", "two"], ["ein Haus"], ["one, 'two'", "three", "four"], ["é"], ["five"]]


@pytest.fixture(scope="module")
def builders(torchvision: None) -> SimpleNamespace:
    """The modules of CLIP_benchmark that read and write folders (pip install --no-deps webdataset braceexpand)."""
    for package in ("clip_benchmark", "tqdm", "webdataset", "braceexpand", "torchvision"):
        pytest.importorskip(package)
    return SimpleNamespace(
        reader=importlib.import_module("clip_benchmark.datasets.builder").build_wds_dataset,
        converter=importlib.import_module("clip_benchmark.webdataset_builder"),
    )


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (9 + n, 12, 3), dtype=np.uint8)) for n in range(5)]


@pytest.fixture
def converter(builders: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The converter without its eight worker processes."""
    load = torch.utils.data.DataLoader
    monkeypatch.setattr(torch.utils.data, "DataLoader", lambda *args, **kw: load(*args, **kw | {"num_workers": 0}))
    return builders.converter


def encode(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def read_theirs(builders: SimpleNamespace, folder: Path) -> tuple[list[np.ndarray], list[object], object]:
    dataset = builders.reader("generated", np.asarray, split="test", data_dir=str(folder))
    pixels, targets = zip(*dataset, strict=True)
    return list(pixels), list(targets), dataset


def assert_pixels(source: Source, images: list[Image.Image]) -> None:
    assert len(source) == len(images)
    for index, image in enumerate(images):
        own = Image.open(io.BytesIO(source.read(index).image)).convert("RGB")
        np.testing.assert_array_equal(np.asarray(own), np.asarray(image))


def test_their_reader_reads_labels_names_and_templates_of_zebra(builders, images, tmp_path):
    samples = [(encode(image), "png", label) for image, label in zip(images, LABELS, strict=True)]
    write_classification(tmp_path, samples, CLASSES, TEMPLATES, samples_per_shard=2)
    pixels, labels, dataset = read_theirs(builders, tmp_path)
    assert (labels, dataset.classes, dataset.templates) == (LABELS, CLASSES, TEMPLATES)
    for own, image in zip(pixels, images, strict=True):
        np.testing.assert_array_equal(own, np.asarray(image))


def test_their_reader_reads_several_labels_of_zebra(builders, images, tmp_path):
    samples = [(encode(image), "png", label_C) for image, label_C in zip(images, LABELS_NC, strict=True)]
    write_multilabel(tmp_path, samples, CLASSES, TEMPLATES)
    _, labels, dataset = read_theirs(builders, tmp_path)
    np.testing.assert_array_equal(np.stack(labels), LABELS_NC)
    assert dataset.classes == CLASSES


def test_their_reader_reads_captions_of_zebra(builders, images, tmp_path):
    write_retrieval(tmp_path, [(encode(i), "png", captions) for i, captions in zip(images, CAPTIONS, strict=True)])
    _, captions, _ = read_theirs(builders, tmp_path)
    assert captions == CAPTIONS


class Dataset(list):
    """What the converter takes: pairs, with names and templates."""

    classes, templates = CLASSES, TEMPLATES


@pytest.mark.parametrize("image_format", ["webp", "png"])
def test_zebra_reads_labels_of_their_converter(converter, images, tmp_path, image_format):
    converter.convert_dataset(
        Dataset(zip(images, LABELS, strict=True)),
        "test",
        str(tmp_path),
        transform=converter.PIL_to_bytes(image_format),
        image_format=image_format,
        max_count=2,
        verbose=False,
    )
    benchmark = read_classification(tmp_path)
    assert [benchmark.source.read(index).label for index in range(5)] == LABELS
    assert (benchmark.classnames, benchmark.templates) == (tuple(CLASSES), tuple(TEMPLATES))
    assert_pixels(benchmark.source, images)


def test_zebra_reads_several_labels_and_captions_of_their_converter(converter, images, tmp_path):
    options = {"transform": converter.PIL_to_bytes("png"), "image_format": "png", "verbose": False}
    pairs = Dataset(zip(images, LABELS_NC.astype(np.int64), strict=True))
    converter.convert_dataset(pairs, "test", str(tmp_path / "labels"), multilabel=True, **options)
    benchmark = read_multilabel(tmp_path / "labels")
    np.testing.assert_array_equal(benchmark.labels_NC, LABELS_NC)
    pairs = Dataset(zip(images, CAPTIONS, strict=True))
    converter.convert_retrieval_dataset(pairs, "test", str(tmp_path / "captions"), **options)
    source = read_retrieval(tmp_path / "captions").source
    assert [list(source.read(index).captions) for index in range(5)] == CAPTIONS
    assert_pixels(source, images)
