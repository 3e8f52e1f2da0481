"""A path tells by itself what lies there, and a wrong one is told what was meant."""

from pathlib import Path

import pytest

from zebra.config.data import DataConfig
from zebra.data.folders import FolderSource
from zebra.data.shards import ShardSource
from zebra.data.sources import open_source, read_many
from zebra.data.tables import TableSource
from zebra.errors import BadSample, DataError

DEFAULT = DataConfig()


def photos(folder: Path, picture) -> Path:
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(picture())
    (folder / "a.txt").write_text("a colour")
    return folder


def test_each_layout_is_recognised(tmp_path: Path, picture, shards) -> None:
    folder = photos(tmp_path / "photos", picture)
    table = tmp_path / "t.CSV"
    table.write_text("path,caption\nphotos/a.jpg,a colour\n")
    written = shards(4, samples_per_shard=2)
    for path, kind, found in (
        (folder, FolderSource, 1),
        (table, TableSource, 1),
        (written, ShardSource, 4),
        (written / "00001.tar", ShardSource, 2),
        (f"{written}/{{00000..00001}}.tar", ShardSource, 4),
        (f"{written}/0000{{0,1}}.tar", ShardSource, 4),
    ):
        source = open_source(path, DEFAULT)
        assert isinstance(source, kind)
        assert len(source) == found
        assert source.name == str(path)
        assert len(source.digest) == 64
        assert source.read(0).captions


def test_missing_shards_of_a_pattern_are_counted_and_named(shards) -> None:
    with pytest.raises(DataError, match=r"2 of the 3 shards .* first .*00001\.tar"):
        open_source(f"{shards(1)}/{{00000..00002}}.tar", DEFAULT)


def test_a_missing_path_is_given_in_full_with_the_nearest_name(
    tmp_path: Path, picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "photos", picture)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"nothing at {tmp_path / 'photo'}; did you mean photos"):
        open_source("photo", DEFAULT)
    with pytest.raises(DataError, match="give a folder of images"):
        open_source("elsewhere/entirely", DEFAULT)


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        open_source(tmp_path / "empty", DEFAULT)


def test_a_folder_without_images_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("no image beside it")
    with pytest.raises(DataError, match=r"no images .* and no \.tar shards .*it holds a\.txt"):
        open_source(tmp_path / "docs", DEFAULT)


def test_a_folder_that_holds_the_data_one_level_deeper_points_there(tmp_path: Path, shards) -> None:
    shards(2, "world/train")
    with pytest.raises(DataError, match=r"did you mean .*world/train"):
        open_source(tmp_path / "world", DEFAULT)


def test_an_unknown_suffix_lists_the_layouts(tmp_path: Path) -> None:
    (tmp_path / "data.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"\.xlsx, which is no known layout.*\.parquet"):
        open_source(tmp_path / "data.xlsx", DEFAULT)


def test_a_table_without_rows_holds_no_samples(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,caption\n")
    with pytest.raises(DataError, match="holds no samples"):
        open_source(tmp_path / "t.csv", DEFAULT)


def test_many_are_read_in_order_from_any_layout_with_bad_samples_as_values(
    tmp_path: Path, picture, shards
) -> None:
    folder = photos(tmp_path / "photos", picture)
    (folder / "b.jpg").write_bytes(picture(1))  # no caption
    photo, lonely = read_many(open_source(folder, DEFAULT), [0, 1])
    assert photo.captions == ("a colour",)
    assert isinstance(lonely, BadSample)
    records = read_many(open_source(shards(6, samples_per_shard=2), DEFAULT), [5, 0, 3, 5])
    assert [record.captions for record in records] == [(f"colour {i}",) for i in (5, 0, 3, 5)]
