"""Tests of benchmarks from captioned data in the layouts of training."""

import csv
import io
import tarfile
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from zebra.data.benchmarks.tasks import ClassificationBenchmark, MultilingualRetrievalBenchmark, RetrievalBenchmark
from zebra.errors import DataError, MissingSplit
from zebra.evaluators.datasets import load_dataset

CAPTIONS = {"a": "a red cat", "b": "a dog", "c": "two pigs"}


def draw(name: str) -> bytes:
    """Return bytes that stand for an image."""
    return b"\x89PNG" + name.encode()


def write_folder(root: Path, captions: dict[str, str]) -> Path:
    for name, caption in captions.items():
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw(name))
        if caption:
            path.with_suffix(".txt").write_text(caption)
    return root


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    write_folder(path.parent, dict.fromkeys("abc", ""))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_shard(path: Path, captions: dict[str, str], suffix: str = "txt") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for name, caption in captions.items():
            for member, data in ((f"{name}.png", draw(name)), (f"{name}.{suffix}", caption.encode())):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                shard.addfile(info, io.BytesIO(data))
    return path


def caption_rows() -> list[dict[str, str]]:
    return [{"path": f"{name}.png", "caption": caption} for name, caption in CAPTIONS.items()]


def test_a_column_of_languages_makes_retrieval_in_each_language(tmp_path: Path) -> None:
    rows = [
        {"path": f"{name}.png", "caption": caption, "language": language}
        for name, caption, language in (
            ("a", "a cat", "en"),
            ("b", "a dog", "en"),
            ("b", "ein Hund", "de"),
            ("a", "?", ""),
        )
    ]
    benchmark = load_dataset(write_table(tmp_path / "captions.csv", rows))
    assert isinstance(benchmark, MultilingualRetrievalBenchmark)
    assert benchmark.captions == {"de": ((), ("ein Hund",)), "en": (("a cat",), ("a dog",)), "und": (("?",), ())}
    assert len(benchmark.source) == 2
    renamed = [row | {"language": "sw" if row["language"] == "de" else row["language"]} for row in rows]
    assert (
        load_dataset(write_table(tmp_path / "other" / "captions.csv", renamed)).source.digest != benchmark.source.digest
    )


def test_one_language_makes_plain_retrieval(tmp_path: Path) -> None:
    rows = [row | {"Language": "de"} for row in caption_rows()]
    benchmark = load_dataset(write_table(tmp_path / "captions.csv", rows))
    assert isinstance(benchmark, RetrievalBenchmark)


def saved(path: Path, features: Features, rows: dict[str, list[object]]) -> Path:
    Dataset.from_dict(rows, features=features).save_to_disk(path)
    return path


def saved_captions(path: Path) -> Path:
    images = [{"bytes": draw(name), "path": None} for name in CAPTIONS]
    return saved(
        path, Features({"image": Image(), "text": Value("string")}), {"image": images, "text": [*CAPTIONS.values()]}
    )


LAYOUTS = {
    "folder": lambda root: write_folder(root / "data", CAPTIONS),
    "subfolders": lambda root: write_folder(root / "data", {f"{name}/{name}": CAPTIONS[name] for name in CAPTIONS}),
    "table": lambda root: write_table(root / "data.csv", caption_rows()),
    "shard": lambda root: write_shard(root / "data.tar", CAPTIONS),
    "shards": lambda root: write_shard(root / "data" / "00000.tar", CAPTIONS).parent,
    "pattern": lambda root: write_shard(root / "data" / "0.tar", CAPTIONS).with_name("{0..0}.tar"),
    "saved dataset": lambda root: saved_captions(root / "data"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_captioned_data_of_every_layout_is_read_for_retrieval(layout, tmp_path):
    benchmark = load_dataset(LAYOUTS[layout](tmp_path))
    assert isinstance(benchmark, RetrievalBenchmark)
    records = [benchmark.source.read(index) for index in range(len(benchmark.source))]
    assert [record.captions for record in records] == [(caption,) for caption in CAPTIONS.values()]
    assert "the task is retrieval" in benchmark.notes[0]


def test_labels_decide_if_a_table_has_both(tmp_path):
    rows = [row | {"label": label} for row, label in zip(caption_rows(), ("x", "y", "x"), strict=True)]
    benchmark = load_dataset(write_table(tmp_path / "data.csv", rows))
    assert isinstance(benchmark, ClassificationBenchmark)
    assert benchmark.classnames == ("x", "y")


def test_a_saved_dataset_with_labels_is_classified(tmp_path):
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    images = [{"bytes": draw(name), "path": None} for name in "ab"]
    benchmark = load_dataset(saved(tmp_path / "pets", features, {"image": images, "label": [1, 0]}))
    assert isinstance(benchmark, ClassificationBenchmark)
    assert (benchmark.name, benchmark.classnames) == ("pets", ("cat", "dog"))
    assert [benchmark.source.read(index).label for index in range(2)] == [1, 0]
    unlabeled = saved(tmp_path / "unlabeled", features, {"image": images, "label": [1, -1]})
    with pytest.raises(DataError, match="unlabeled:1"):
        load_dataset(unlabeled)


@pytest.mark.parametrize("captions", [{}, {"cat/notes": "a note"}])
def test_class_folders_stay_class_folders(captions, tmp_path):
    root = write_folder(tmp_path / "pets", {"cat/1": "", "cat/2": "", "cat/3": "", "dog/1": ""})
    for name, text in captions.items():
        (root / f"{name}.txt").write_text(text)
    assert isinstance(load_dataset(root), ClassificationBenchmark)


def test_rows_with_one_image_are_one_image_with_several_captions(tmp_path):
    rows = [*caption_rows(), {"path": "a.png", "caption": "a cat"}, {"path": "a.png", "caption": "a red cat"}]
    benchmark = load_dataset(write_table(tmp_path / "data.csv", rows))
    assert len(benchmark.source) == 3
    assert benchmark.source.read(0).captions == ("a red cat", "a cat")
    assert any(note.startswith("2 samples have the image of an earlier one") for note in benchmark.notes)


def test_samples_without_a_caption_or_image_are_left_out_and_counted(tmp_path):
    root = write_folder(tmp_path / "data", CAPTIONS | {"d": ""})
    (root / "e.txt").write_text("a caption without an image")
    (root / "b.txt").write_text("  ")
    benchmark = load_dataset(root)
    assert [benchmark.source.sample_id(index) for index in range(len(benchmark.source))] == ["a.png", "c.png"]
    (note,) = (note for note in benchmark.notes if note.startswith("left out"))
    assert all(text in note for text in ("1 missing caption", "1 missing image", "1 empty caption", "d.png"))


def test_data_without_a_caption_is_refused_with_the_reasons(tmp_path):
    with pytest.raises(DataError, match="3 missing caption"):
        load_dataset(write_shard(tmp_path / "data.tar", dict.fromkeys("abc", "0"), "cls"))


def test_the_digest_depends_on_the_captions_that_are_used(tmp_path):
    shards = [write_shard(tmp_path / f"{n}" / "data.tar", captions) for n, captions in enumerate((CAPTIONS, CAPTIONS))]
    first, second = (load_dataset(shard).source.digest for shard in shards)
    assert first == second
    other = write_shard(tmp_path / "2" / "data.tar", CAPTIONS | {"c": "two cows"})
    assert load_dataset(other).source.digest != first


def test_a_split_is_selected_by_its_name(tmp_path):
    for split, name in (("train", "a"), ("test", "b")):
        write_folder(tmp_path / "data" / split, {name: CAPTIONS[name]})
    assert load_dataset(tmp_path / "data").source.sample_id(0) == "b.png"
    assert load_dataset(tmp_path / "data", "train").source.sample_id(0) == "a.png"
    with pytest.raises(DataError, match="val"):
        load_dataset(tmp_path / "data", "val")


def test_data_without_splits_has_only_the_split_test(tmp_path):
    with pytest.raises(MissingSplit, match="no splits"):
        load_dataset(write_folder(tmp_path / "data", CAPTIONS), "train")


def test_the_column_split_selects_rows(tmp_path):
    rows = [row | {"split": split} for row, split in zip(caption_rows(), ("train", "test", "train"), strict=True)]
    path = write_table(tmp_path / "data.csv", rows)
    assert len(load_dataset(path).source) == 1
    assert len(load_dataset(f"{path}/train").source) == 2
    with pytest.raises(MissingSplit, match="test, train"):
        load_dataset(path, "val")


def test_a_split_in_the_names_of_shards_is_selected(tmp_path):
    for split, name in (("train", "a"), ("test", "b")):
        write_shard(tmp_path / "data" / f"{split}-0000.tar", {name: CAPTIONS[name]})
    assert load_dataset(tmp_path / "data").source.read(0).captions == ("a dog",)
    assert load_dataset(f"{tmp_path}/data/train").source.read(0).captions == ("a red cat",)


def test_the_split_of_a_saved_dict_is_selected(tmp_path):
    rows = Dataset.from_dict(
        {"image": [{"bytes": draw("a"), "path": None}], "text": ["a red cat"]},
        features=Features({"image": Image(), "text": Value("string")}),
    )
    DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "data")
    assert load_dataset(tmp_path / "data").source.read(0).captions == ("a red cat",)
