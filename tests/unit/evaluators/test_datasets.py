"""Datasets by name: loaded, or refused with a message on what to do."""

import json
import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from sklearn.datasets import load_digits

from zebra.data.benchmarks.tasks import MultilabelBenchmark, RetrievalBenchmark
from zebra.data.benchmarks.writer import write_classification, write_retrieval
from zebra.errors import DataError, DownloadError
from zebra.evaluators import datasets
from zebra.evaluators.datasets import list_builtin_datasets, load_dataset
from zebra.menagerie.datasets import DRAWN_DATASETS

PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def cache_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a separate cache, and draw only four images per dataset."""
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setattr(
        datasets, "DRAWN_DATASETS", {name: replace(dataset, num_samples=4) for name, dataset in DRAWN_DATASETS.items()}
    )
    return tmp_path / ".cache"


@pytest.fixture
def pets_path(tmp_path: Path) -> Path:
    write_classification(tmp_path / "pets", [(b"x", "png", 1)], ["cat", "dog"], ["{c}"])
    return tmp_path / "pets"


def test_a_folder_in_clip_benchmarks_layout_is_loaded(pets_path: Path) -> None:
    benchmark = load_dataset(pets_path)
    assert (benchmark.name, benchmark.source.read(0).label) == ("pets", 1)


def test_a_folder_without_its_shard_count_is_not_mistaken_for_another_layout(pets_path: Path) -> None:
    (pets_path / "test" / "nshards.txt").unlink()
    with pytest.raises(DataError, match=r"nshards\.txt cannot be read"):
        load_dataset(pets_path)


def test_captioned_datasets_are_loaded_for_retrieval(tmp_path: Path) -> None:
    write_retrieval(tmp_path / "coco", [(b"x", "png", ["a cat"])])
    assert isinstance(load_dataset(tmp_path / "coco"), RetrievalBenchmark)


def test_class_folders_tables_and_questions_are_distinguished(tmp_path: Path) -> None:
    (tmp_path / "classes" / "cat").mkdir(parents=True)
    (tmp_path / "classes" / "cat" / "a.png").write_bytes(PNG)
    (tmp_path / "table.csv").write_text("path,label\nclasses/cat/a.png,cat\n")
    entry = {"filename": "a.png", "caption": "a cat", "negative_caption": "a dog"}
    (tmp_path / "sugar" / "images").mkdir(parents=True)
    (tmp_path / "sugar" / "images" / "a.png").write_bytes(PNG)
    (tmp_path / "sugar" / "add_obj.json").write_text(json.dumps({"0": entry}))
    benchmarks = [load_dataset(tmp_path / name) for name in ("classes", "table.csv", "sugar")]
    assert [type(benchmark).__name__ for benchmark in benchmarks] == [
        "ClassificationBenchmark",
        "ClassificationBenchmark",
        "CompositionalityBenchmark",
    ]
    assert all(benchmark.source.read(0).image == PNG for benchmark in benchmarks)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.xyz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"is no known layout\. Give a folder of images"):
        load_dataset(tmp_path / "set.xyz")


def test_a_drawn_dataset_is_drawn_once_and_then_read(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_dataset("menagerie/zebra")
    monkeypatch.setattr(datasets, "draw_chunk", None)
    again = load_dataset("menagerie/zebra")
    assert (first.name, len(first.source)) == ("zebra", 4)
    assert [first.source.read(i) for i in range(4)] == [again.source.read(i) for i in range(4)]


def test_the_test_split_is_drawn_with_seed_0() -> None:
    from zebra.menagerie.write import draw_chunk

    drawn = draw_chunk(0, "counting", range(4))
    benchmark = load_dataset("menagerie/counting")
    assert [benchmark.source.read(i).image for i in range(4)] == [sample.image for sample in drawn]
    assert [benchmark.source.read(i).label for i in range(4)] == [sample.label for sample in drawn]


def test_the_splits_of_a_drawn_dataset_have_different_images() -> None:
    splits = [load_dataset("menagerie/counting", split) for split in ("train", "val", "test")]
    images = {split.source.read(i).image for split in splits for i in range(4)}
    assert len(images) == 12


def test_interrupted_drawing_leaves_no_partial_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    draw = datasets.draw_chunk
    monkeypatch.setattr(datasets, "draw_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("menagerie/zebra")
    monkeypatch.setattr(datasets, "draw_chunk", draw)
    assert len(load_dataset("menagerie/zebra").source) == 4


def test_the_splits_of_the_digits_are_disjoint_and_complete() -> None:
    (_, train_end), (test_start, test_end) = datasets.DIGITS_SPLITS["train"], datasets.DIGITS_SPLITS["test"]
    assert (train_end, test_end) == (test_start, len(load_digits().target))


def test_digits_are_scikit_learns_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "DIGITS_SPLITS", {"train": (0, 3), "test": (3, 7)})
    train, test = load_dataset("digits", "train"), load_dataset("digits")
    labels = [split.source.read(i).label for split in (train, test) for i in range(len(split.source))]
    assert labels == load_digits().target[:7].tolist()
    assert test.source.read(0).image.startswith(PNG)
    assert test.classnames == tuple("0123456789")


@pytest.mark.parametrize(
    ("name", "split", "splits"), [("digits", "val", "train, test"), ("menagerie/handwritten-digits", "train", "test")]
)
def test_a_missing_split_of_a_built_in_dataset_is_an_error(name: str, split: str, splits: str) -> None:
    with pytest.raises(DataError, match=f"no split '{split}'; its splits are {splits}$"):
        load_dataset(name, split)


def test_a_misspelled_built_in_dataset_gets_a_suggestion() -> None:
    assert "menagerie/unseen-kinds" in list_builtin_datasets()
    with pytest.raises(DataError, match="Did you mean 'menagerie/unseen-kinds'"):
        load_dataset("menagerie/unseen-kind")


def test_a_catalog_name_is_loaded_from_the_data_root(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-images-idx3-ubyte").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 1, 28, 28) + bytes(784))
    (raw / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 1) + b"\x07")
    benchmark = load_dataset("MNIST", data_root=tmp_path)
    assert (benchmark.name, benchmark.source.read(0).label) == ("mnist", 7)


def test_a_catalog_name_without_a_data_root_names_both_ways_to_load_it() -> None:
    with pytest.raises(DataError, match="--data-root, or use the name hf:clip-benchmark/wds_mnist"):
        load_dataset("mnist")


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(DataError, match="Did you mean 'cifar10'"):
        load_dataset("cifar_10x")


def test_a_hub_dataset_records_its_name_and_commit(pets_path: Path, tmp_path: Path, monkeypatch) -> None:
    commit = "f" * 40
    base = tmp_path / "hub" / "datasets--clip-benchmark--wds_vtab-pets"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(commit)
    (base / "snapshots").mkdir()
    pets_path.rename(base / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    benchmark = load_dataset("hf:clip-benchmark/wds_vtab-pets")
    assert (benchmark.name, benchmark.metric) == ("pets", "mean_per_class")
    assert benchmark.notes[-1] == f"from hf:clip-benchmark/wds_vtab-pets@{commit}"
    assert not isinstance(benchmark, MultilabelBenchmark)


def test_a_missing_hub_dataset_is_an_error(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", None)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        load_dataset("hf:clip-benchmark/wds_mnist")


def test_a_name_of_the_catalog_is_read_from_the_data_root_and_not_from_the_current_directory(
    pets_path: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "root").mkdir()
    pets_path.rename(tmp_path / "root" / "pets")
    pets_path.mkdir()
    monkeypatch.chdir(tmp_path)
    benchmark = load_dataset("pets", data_root=tmp_path / "root")
    assert (benchmark.name, benchmark.metric) == ("pets", "mean_per_class")
    assert len(benchmark.source) > 0
