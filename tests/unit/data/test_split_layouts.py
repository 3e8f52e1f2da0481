"""A dataset with several splits is refused in every layout, and PATH/SPLIT selects one."""

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from zebra.config.data import DataConfig
from zebra.data.ignored import Ignored
from zebra.data.shard_writer import ShardWriter
from zebra.data.sources import open_images, open_source
from zebra.errors import DataError

DEFAULT = DataConfig()
SIZES = {"train": 3, "test": 2}


def rows(make_image, split: str) -> dict[str, list]:
    return {
        "image": [make_image(number) for number in range(SIZES[split])],
        "caption": [f"{split} {number}" for number in range(SIZES[split])],
    }


def write_parquet(root: Path, make_image) -> str:
    for split in SIZES:
        pq.write_table(pa.table(rows(make_image, split)), root / f"{split}.parquet")
    return "test"


def write_hub_files(root: Path, make_image) -> str:
    (root / "data").mkdir()
    for split in SIZES:
        name = f"{split}-00000-of-00001-0123456789abcdef.parquet"
        pq.write_table(pa.table(rows(make_image, split)), root / "data" / name)
    return "test"


def write_shards(root: Path, make_image) -> str:
    for split, size in SIZES.items():
        with ShardWriter(root / split) as writer:
            for number in range(size):
                writer.write(str(number), {"jpg": make_image(number), "txt": f"{split} {number}".encode()})
        writer.shards[0].rename(root / f"cc3m-{split}-0000.tar")
        (root / split).rmdir()
    return r"cc3m-test-\{0000\.\.0000\}\.tar"


def write_folders(root: Path, make_image) -> str:
    for split, size in SIZES.items():
        (root / split).mkdir()
        for number in range(size):
            (root / split / f"{number}.jpg").write_bytes(make_image(number))
            (root / split / f"{number}.txt").write_text(f"{split} {number}")
    return "test"


def all_rows(make_image) -> dict[str, list]:
    parts = [rows(make_image, split) | {"split": [split] * size} for split, size in SIZES.items()]
    return {name: [cell for part in parts for cell in part[name]] for name in parts[0]}


def write_split_column(root: Path, make_image) -> str:
    pq.write_table(pa.table(all_rows(make_image)), root / "0.parquet")
    return "test"


def write_saved_dataset(root: Path, make_image) -> str:
    Dataset.from_dict(all_rows(make_image)).save_to_disk(root)
    return "test"


WRITERS: list[Callable[[Path, Callable], str]] = [
    write_parquet,
    write_hub_files,
    write_shards,
    write_folders,
    write_split_column,
    write_saved_dataset,
]


@pytest.mark.parametrize("write", WRITERS)
def test_several_splits_are_refused_and_one_can_be_selected(tmp_path: Path, make_image, write) -> None:
    root = tmp_path / "root"
    root.mkdir()
    argument = write(root, make_image)
    for open_data in (open_source, open_images):
        with pytest.raises(
            DataError, match=rf"root has 2 splits: test, train\. Give one of them, such as .*{argument}$"
        ):
            open_data(root, DEFAULT)
    for split, size in SIZES.items():
        source = open_source(root / split, DEFAULT)
        assert [source.read(index).captions[0] for index in range(len(source))] == [f"{split} {i}" for i in range(size)]
        assert source.name == str(root / split)
        assert source.ignored == ()
        images = open_images(root / split, DEFAULT)
        assert images.num_images() == len(list(images.scan())) == size
    with pytest.raises(DataError):
        open_source(root / "holdout", DEFAULT)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_the_splits_of_a_table_are_the_values_of_its_column(tmp_path: Path, make_image, name: str) -> None:
    table = pa.table(all_rows(make_image))
    for number in range(table.num_rows):
        (tmp_path / f"{number}.jpg").write_bytes(make_image(number))
    table = table.set_column(0, "image", pa.array([f"{number}.jpg" for number in range(table.num_rows)]))
    path = tmp_path / name
    match path.suffix:
        case ".csv":
            path.write_text(
                "\n".join([",".join(table.column_names), *(",".join(row.values()) for row in table.to_pylist())])
            )
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
        case _:
            pq.write_table(table, path)
    for open_data in (open_source, open_images):
        with pytest.raises(
            DataError, match=rf"{name} has 2 splits: test, train\. Give one of them, such as .*{name}/test"
        ):
            open_data(path, DEFAULT)
    source = open_source(f"{path}/train", DEFAULT)
    assert [source.read(index).captions[0] for index in range(len(source))] == ["train 0", "train 1", "train 2"]
    assert open_source(f"{path}/test", DEFAULT).digest != source.digest
    assert open_images(f"{path}/test", DEFAULT).num_images() == 2
    with pytest.raises(DataError, match=r"has no split 'val'\. Its splits are test, train"):
        open_source(f"{path}/val", DEFAULT)


def test_a_row_without_a_split_is_not_read_with_the_others(tmp_path: Path, make_image) -> None:
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(make_image(number))
    (tmp_path / "t.csv").write_text("image,caption,split\n0.jpg,a,train\n1.jpg,b,\n")
    with pytest.raises(DataError, match=r"t\.csv has 2 splits"):
        open_source(tmp_path / "t.csv", DEFAULT)
    assert len(open_source(tmp_path / "t.csv/train", DEFAULT)) == 1


def test_the_pattern_of_the_error_message_opens_the_split(tmp_path: Path, make_image) -> None:
    write_shards(tmp_path, make_image)
    assert len(open_source(f"{tmp_path}/cc3m-train-{{0000..0000}}.tar", DEFAULT)) == 3


def test_folders_of_splits_below_other_folders_are_refused_too(tmp_path: Path, make_image) -> None:
    (tmp_path / "images").mkdir()
    write_folders(tmp_path / "images", make_image)
    with pytest.raises(DataError, match=r"images has 2 splits: test, train\. Give one of them, such as .*/images/test"):
        open_source(tmp_path, DEFAULT)


def test_a_class_folder_called_train_among_others_is_no_split(tmp_path: Path, make_image) -> None:
    for name in ("train", "airplane", "ship"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.jpg").write_bytes(make_image())
        (tmp_path / name / "0.txt").write_text(name)
    assert len(open_source(tmp_path, DEFAULT)) == 3


def test_other_files_beside_shards_are_counted_and_their_companions_are_not(shards: Callable[..., Path]) -> None:
    folder = shards(2)
    with tarfile.open(folder / "more.tar.gz", "w:gz"):
        pass
    (folder / "00000_stats.json").write_text('{"successes": 2}')
    (folder / "more").mkdir()
    for name in ("notes.md", "loose.jpg", "._00000.tar", "more/00001.tar"):
        (folder / name).write_bytes(b"x")
    assert {(entry.reason, entry.example) for entry in open_source(folder, DEFAULT).ignored} == {
        (".md", "notes.md"),
        (".jpg", "loose.jpg"),
        ("hidden", "._00000.tar"),
        (".tar", "more/00001.tar"),
        (".gz", "more.tar.gz"),
    }


def test_other_files_beside_parquet_files_are_counted(tmp_path: Path, make_image) -> None:
    pq.write_table(pa.table(rows(make_image, "train")), tmp_path / "0.parquet")
    (tmp_path / "README.md").write_text("x")
    assert open_source(tmp_path, DEFAULT).ignored == (Ignored(".md", 1, "README.md"),)


def test_shards_with_upper_case_suffix_are_found(shards: Callable[..., Path]) -> None:
    folder = shards(2)
    (folder / "00000.tar").rename(folder / "00000.TAR")
    assert len(open_source(folder, DEFAULT)) == 2


def test_a_named_pipe_as_a_table_or_shard_is_an_error_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.tar")
    for path in (tmp_path / "0.tar", tmp_path, f"{tmp_path}/{{0..0}}.tar"):
        with pytest.raises(DataError, match="a named pipe, not a regular file"):
            open_source(path, DEFAULT)
