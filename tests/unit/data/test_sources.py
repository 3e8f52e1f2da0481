"""The layout follows from the path; a wrong path is an error with a suggestion."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zebra.config.data import DataConfig
from zebra.data.folders import FolderSource
from zebra.data.shards import ShardSource
from zebra.data.sources import open_source, read_many
from zebra.data.tables import TableSource
from zebra.errors import BadSample, DataError

DEFAULT = DataConfig()


def write_photos(folder: Path, make_image) -> Path:
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(make_image())
    (folder / "a.txt").write_text("a color")
    return folder


def test_each_layout_is_detected(tmp_path: Path, make_image, shards) -> None:
    folder = write_photos(tmp_path / "photos", make_image)
    table = tmp_path / "t.CSV"
    table.write_text("path,caption\nphotos/a.jpg,a color\n")
    shard_dir = shards(4, samples_per_shard=2)
    for path, source_class, num_samples in (
        (folder, FolderSource, 1),
        (table, TableSource, 1),
        (shard_dir, ShardSource, 4),
        (shard_dir / "00001.tar", ShardSource, 2),
        (f"{shard_dir}/{{00000..00001}}.tar", ShardSource, 4),
        (f"{shard_dir}/0000{{0,1}}.tar", ShardSource, 4),
    ):
        source = open_source(path, DEFAULT)
        assert isinstance(source, source_class)
        assert len(source) == num_samples
        assert source.name == str(path)
        assert len(source.digest) == 64
        assert source.read(0).captions


def test_missing_shards_of_a_pattern_are_counted_and_named(shards) -> None:
    with pytest.raises(DataError, match=r"2 of the 3 shards .* first .*00001\.tar"):
        open_source(f"{shards(1)}/{{00000..00002}}.tar", DEFAULT)


def test_a_missing_path_is_an_error_with_a_similar_name(
    tmp_path: Path, make_image, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos", make_image)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"nothing at {tmp_path / 'photo'}\. Did you mean photos\?"):
        open_source("photo", DEFAULT)
    with pytest.raises(DataError, match="Give a folder of images"):
        open_source("elsewhere/entirely", DEFAULT)


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        open_source(tmp_path / "empty", DEFAULT)


def test_a_folder_without_images_is_an_error_with_its_contents(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("no image beside it")
    with pytest.raises(DataError, match=r"no images .* and no \.tar shards .*it contains a\.txt"):
        open_source(tmp_path / "docs", DEFAULT)


def test_a_folder_with_data_one_level_deeper_gets_a_suggestion(tmp_path: Path, shards) -> None:
    shards(2, "world/train")
    with pytest.raises(DataError, match=r"Did you mean .*world/train"):
        open_source(tmp_path / "world", DEFAULT)


def test_an_unknown_suffix_lists_the_layouts(tmp_path: Path) -> None:
    (tmp_path / "data.xyz").write_text("x")
    with pytest.raises(DataError, match=r"suffix '\.xyz', which is no known layout.*\.parquet"):
        open_source(tmp_path / "data.xyz", DEFAULT)


def test_a_table_without_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,caption\n")
    with pytest.raises(DataError, match="has no samples"):
        open_source(tmp_path / "t.csv", DEFAULT)


def test_read_many_keeps_the_order_and_returns_bad_samples(tmp_path: Path, make_image, shards) -> None:
    folder = write_photos(tmp_path / "photos", make_image)
    (folder / "b.jpg").write_bytes(make_image(1))  # no caption
    photo, bad = read_many(open_source(folder, DEFAULT), [0, 1])
    assert photo.captions == ("a color",)
    assert isinstance(bad, BadSample)
    records = read_many(open_source(shards(6, samples_per_shard=2), DEFAULT), [5, 0, 3, 5])
    assert [record.captions for record in records] == [(f"color {i}",) for i in (5, 0, 3, 5)]


def test_a_missing_path_beside_an_unrelated_table_is_reported_as_missing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"price": [1.0]}), tmp_path / "prices.parquet")
    with pytest.raises(DataError, match="there is nothing at"):
        open_source(tmp_path / "photos", DEFAULT)
