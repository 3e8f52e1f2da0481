"""Splits are recognized in names, and several splits are never read together."""

import pytest

from zebra.data.split_names import find_folder_splits, find_split, select_split_files, several_splits_error
from zebra.errors import DataError

DIGEST = "0123456789abcdef"


def select(files: list[str], split: str | None = None) -> list[str]:
    return select_split_files(files, "data", split, suggest_pattern=True)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.parquet", "train"),
        ("cc3m-validation-0000.tar", "validation"),
        ("coco_val2017_000.tar", "validation"),
        ("My Test Set.tar", "test"),
        ("TRAIN-00.tar", "train"),
        ("training_set.csv", "train"),
        ("trains-00.tar", None),
        ("latest-00.tar", None),
        ("terrain.tar", None),
        ("00000.tar", None),
    ],
)
def test_a_split_is_a_whole_word_of_a_name(name: str, split: str | None) -> None:
    assert find_split(name) == split


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["train.parquet", "test.parquet"], "test, train"),
        ([f"train-00000-of-00001-{DIGEST}.parquet", f"test-00000-of-00001-{DIGEST}.parquet"], "test, train"),
        ([f"train-00000-of-00001-{DIGEST}.parquet", "test.parquet"], "test, train"),
        (["a-00000-of-00001.parquet", "b-00000-of-00001.parquet"], "a, b"),
        (["cc3m-train-0000.tar", "cc3m-validation-0000.tar", "cc3m-test-0000.tar"], "test, train, validation"),
        (["train.tar", "val.tar", "more.tar"], "train, validation"),
    ],
)
def test_several_splits_are_refused_by_name(files: list[str], splits: str) -> None:
    with pytest.raises(DataError, match=rf"data has \d splits: {splits}\. Give one of them, such as data/"):
        select(files)


def test_the_error_has_a_pattern_of_the_shards_of_one_split() -> None:
    files = [f"cc3m-{split}-{number:04d}.tar" for split in ("train", "val") for number in range(12)]
    with pytest.raises(DataError, match=r"such as data/cc3m-train-\{0000\.\.0011\}\.tar"):
        select(files)


@pytest.mark.parametrize("asked", ["validation", "val", "valid"])
def test_one_split_is_selected_by_any_of_its_names(asked: str) -> None:
    files = ["cc3m-train-0.tar", "cc3m-val-0.tar", "cc3m-val-1.tar", "other.tar"]
    assert select(files, asked) == ["cc3m-val-0.tar", "cc3m-val-1.tar"]
    assert select(files, "test") == []
    assert select([f"validation-00000-of-00001-{DIGEST}.parquet"], asked) == [
        f"validation-00000-of-00001-{DIGEST}.parquet"
    ]


@pytest.mark.parametrize("files", [["0.tar", "1.tar"], ["train-0.tar", "train-1.tar"], ["steam-train.tar", "boat.tar"]])
def test_names_without_different_splits_are_one_dataset(files: list[str]) -> None:
    assert select(files) == files


@pytest.mark.parametrize("suffix", ["", f"-{DIGEST}"])
@pytest.mark.parametrize("extension", ["parquet", "tar"])
def test_an_incomplete_count_is_refused(suffix: str, extension: str) -> None:
    files = [f"train-{number:05d}-of-00003{suffix}.{extension}" for number in (0, 2)]
    for split in (None, "train"):
        with pytest.raises(DataError, match="data has 2 files of train, but their names count 3"):
            select(files, split)


def test_two_uploads_of_a_split_with_different_digests_are_refused() -> None:
    with pytest.raises(DataError, match="has 2 files of train, but their names count 1"):
        select([f"train-00000-of-00001-{DIGEST}.parquet", f"train-00000-of-00001-{DIGEST[::-1]}.parquet"])


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train", "test"], {"test": "test", "train": "train"}),
        (["Train", "VAL", "README"], {"train": "Train", "validation": "VAL"}),
        (["train2017", "val2017", "annotations"], {"train": "train2017", "validation": "val2017"}),
        (["images_train", "images_val"], {"train": "images_train", "validation": "images_val"}),
        (["train", "airplane", "dog"], {}),
        (["bullet_train", "test_tube", "dog"], {}),
        (["train"], {}),
        (["val", "validation"], {}),
        ([], {}),
    ],
)
def test_sibling_folders_are_splits_only_if_two_differ(names: list[str], splits: dict[str, str]) -> None:
    assert find_folder_splits(names) == splits


def test_splits_of_any_length_give_a_short_printable_message() -> None:
    message = str(several_splits_error("caf\udce9/t.csv", ["a" * 70_000, "b\0", "\udcff"]))
    assert len(message) < 500
    assert message.isprintable()
