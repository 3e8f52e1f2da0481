"""Whatever a user calls a data set is opened, or answered with what to do."""

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
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and drawn sets of four pictures."""
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setattr(
        datasets,
        "DRAWN_DATASETS",
        {name: replace(one, num_samples=4) for name, one in DRAWN_DATASETS.items()},
    )
    return tmp_path / ".cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_classification(tmp_path / "pets", [(b"x", "png", 1)], ["cat", "dog"], ["{c}"])
    return tmp_path / "pets"


def test_a_folder_in_clip_benchmarks_layout_is_opened(folder: Path) -> None:
    benchmark = load_dataset(folder)
    assert (benchmark.name, benchmark.source.read(0).label) == ("pets", 1)


def test_a_folder_whose_count_of_shards_is_missing_is_not_taken_for_something_else(folder: Path) -> None:
    (folder / "test" / "nshards.txt").unlink()
    with pytest.raises(DataError, match=r"nshards\.txt cannot be read"):
        load_dataset(folder)


def test_captioned_sets_are_opened_as_such(tmp_path: Path) -> None:
    write_retrieval(tmp_path / "coco", [(b"x", "png", ["a cat"])])
    assert isinstance(load_dataset(tmp_path / "coco"), RetrievalBenchmark)


def test_folders_of_classes_tables_and_questions_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "classes" / "cat").mkdir(parents=True)
    (tmp_path / "classes" / "cat" / "a.png").write_bytes(PNG)
    (tmp_path / "table.csv").write_text("path,label\nclasses/cat/a.png,cat\n")
    entry = {"filename": "../classes/cat/a.png", "caption": "a cat", "negative_caption": "a dog"}
    entry["filename"] = "a.png"
    (tmp_path / "sugar" / "images").mkdir(parents=True)
    (tmp_path / "sugar" / "images" / "a.png").write_bytes(PNG)
    (tmp_path / "sugar" / "add_obj.json").write_text(json.dumps({"0": entry}))
    opened = [load_dataset(tmp_path / name) for name in ("classes", "table.csv", "sugar")]
    assert [type(one).__name__ for one in opened] == [
        "ClassificationBenchmark",
        "ClassificationBenchmark",
        "CompositionalityBenchmark",
    ]
    assert all(one.source.read(0).image == PNG for one in opened)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"x")
    with pytest.raises(DataError, match="is no data set: give a folder, or a table"):
        load_dataset(tmp_path / "set.zip")


def test_a_drawn_set_is_drawn_once_and_then_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_dataset("menagerie/zebra")
    monkeypatch.setattr(datasets, "draw_chunk", None)
    again = load_dataset("menagerie/zebra")
    assert (first.name, len(first.source)) == ("zebra", 4)
    assert [first.source.read(i) for i in range(4)] == [again.source.read(i) for i in range(4)]


def test_a_drawn_set_is_the_one_of_a_world_of_seed_0() -> None:
    from zebra.menagerie.write import draw_chunk

    drawn = draw_chunk(0, "counting", range(4))
    benchmark = load_dataset("menagerie/counting")
    assert [benchmark.source.read(i).image for i in range(4)] == [one.image for one in drawn]
    assert [benchmark.source.read(i).label for i in range(4)] == [one.label for one in drawn]


def test_the_splits_of_a_drawn_set_show_different_pictures() -> None:
    parts = [load_dataset("menagerie/counting", split) for split in ("train", "val", "test")]
    shown = {part.source.read(i).image for part in parts for i in range(4)}
    assert len(shown) == 12


def test_an_interrupted_drawing_leaves_nothing_that_is_taken_for_a_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    draw = datasets.draw_chunk
    monkeypatch.setattr(datasets, "draw_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("menagerie/zebra")
    monkeypatch.setattr(datasets, "draw_chunk", draw)
    assert len(load_dataset("menagerie/zebra").source) == 4


def test_the_halves_of_the_digits_share_no_scan_and_leave_none_out() -> None:
    (_, train_end), (test_start, test_end) = datasets.DIGITS_SPLITS["train"], datasets.DIGITS_SPLITS["test"]
    assert (train_end, test_end) == (test_start, len(load_digits().target))


def test_digits_are_scikit_learns_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "DIGITS_SPLITS", {"train": (0, 3), "test": (3, 7)})
    train, test = load_dataset("digits", "train"), load_dataset("digits")
    found = [part.source.read(i).label for part in (train, test) for i in range(len(part.source))]
    assert found == load_digits().target[:7].tolist()
    assert test.source.read(0).image.startswith(PNG)
    assert test.classnames == tuple("0123456789")


@pytest.mark.parametrize(
    ("name", "split", "known"),
    [("digits", "val", "train, test"), ("menagerie/handwritten-digits", "train", "test")],
)
def test_a_split_that_a_built_in_set_lacks_is_an_error(name: str, split: str, known: str) -> None:
    with pytest.raises(DataError, match=f"no split '{split}'; it has {known}$"):
        load_dataset(name, split)


def test_a_misspelt_built_in_set_is_answered_with_the_nearest() -> None:
    assert "menagerie/unseen-kinds" in list_builtin_datasets()
    with pytest.raises(DataError, match="Did you mean 'menagerie/unseen-kinds'"):
        load_dataset("menagerie/unseen-kind")


def test_a_name_of_the_catalogue_is_looked_for_under_the_data_root(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-images-idx3-ubyte").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 1, 28, 28) + bytes(784))
    (raw / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 1) + b"\x07")
    benchmark = load_dataset("MNIST", data_root=tmp_path)
    assert (benchmark.name, benchmark.source.read(0).label) == ("mnist", 7)


def test_a_name_of_the_catalogue_without_a_data_root_comes_with_both_ways() -> None:
    with pytest.raises(DataError, match="--data-root, or name hf:clip-benchmark/wds_mnist"):
        load_dataset("mnist")


def test_a_name_that_is_nothing_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match="Did you mean 'cifar10'"):
        load_dataset("cifar_10x")


def test_a_set_of_the_hub_carries_its_name_and_its_commit(folder: Path, tmp_path: Path, monkeypatch) -> None:
    commit = "f" * 40
    base = tmp_path / "hub" / "datasets--clip-benchmark--wds_vtab-pets"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(commit)
    (base / "snapshots").mkdir()
    folder.rename(base / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    benchmark = load_dataset("hf:clip-benchmark/wds_vtab-pets")
    assert (benchmark.name, benchmark.metric) == ("pets", "mean_per_class")
    assert benchmark.notes[-1] == f"from hf:clip-benchmark/wds_vtab-pets@{commit}"
    assert not isinstance(benchmark, MultilabelBenchmark)


def test_a_set_of_the_hub_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", None)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        load_dataset("hf:clip-benchmark/wds_mnist")
