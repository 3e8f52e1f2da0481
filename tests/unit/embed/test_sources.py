"""Pictures of any layout are found in order, with captions if there are any, and can be read in another process."""

import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zebra.config.data import DataConfig
from zebra.data.shard_writer import ShardWriter
from zebra.embed.sources import open_embed_source
from zebra.errors import BadSample, DataError

from .conftest import encoded


def find(data, columns=()):
    pictures = open_embed_source(str(data), DataConfig(), columns)
    found = list(pictures)
    assert len(pictures) == len(found)
    return found


def write_shard(folder: Path, **fields: bytes) -> Path:
    with ShardWriter(folder) as writer:
        for number in range(3):
            writer.write(f"{number}", {"jpg": encoded(number), **fields})
    return folder / "00000.tar"


def as_folder(root: Path) -> Path:
    (root / "in").mkdir()
    for number, name in enumerate(("0.jpg", "1.jpg", "in/2.jpg")):
        (root / name).write_bytes(encoded(number))
    (root / "lonely.txt").write_text("of no picture")
    return root


def as_csv(root: Path) -> Path:
    as_folder(root)
    (root / "t.csv").write_text("path\n0.jpg\n1.jpg\nin/2.jpg\n")
    return root / "t.csv"


def as_jsonl(root: Path) -> Path:
    as_folder(root)
    (root / "t.jsonl").write_text("".join(f'{{"image": "{n}"}}\n' for n in ("0.jpg", "1.jpg", "in/2.jpg")))
    return root / "t.jsonl"


def as_parquet(root: Path) -> Path:
    pq.write_table(pa.table({"image": [encoded(number) for number in range(3)]}), root / "t.parquet")
    return root / "t.parquet"


def as_hub_split(root: Path) -> Path:
    (root / "data").mkdir()
    for part, numbers in enumerate(((0, 1), (2,))):
        images = [{"bytes": encoded(number), "path": None} for number in numbers]
        pq.write_table(pa.table({"image": images}), root / "data" / f"train-{part:05d}-of-00002.parquet")
    return root


def as_shard(root: Path) -> Path:
    return write_shard(root)


def as_saved(root: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    images = [{"bytes": encoded(number), "path": None} for number in range(3)]
    datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0]}, features).save_to_disk(root / "saved")
    return root / "saved"


LAYOUTS = (as_folder, as_csv, as_jsonl, as_parquet, as_hub_split, as_shard, as_saved)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_without_a_word_are_found_in_order_and_read_elsewhere(tmp_path, layout):
    found = pickle.loads(pickle.dumps(find(layout(tmp_path))))
    assert [picture.load().image_bytes for picture in found] == [encoded(number) for number in range(3)]
    assert all(picture.load().captions == () for picture in found)
    assert len({picture.location.key for picture in found}) == 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_known_of_a_picture_is_the_same_the_next_time(tmp_path, layout):
    data = layout(tmp_path)
    assert [picture.location for picture in find(data)] == [picture.location for picture in find(data)]


def test_a_blank_caption_is_none(tmp_path):
    as_folder(tmp_path)
    (tmp_path / "0.txt").write_text(" \n")
    assert find(tmp_path)[0].load().captions == ()
    assert find(write_shard(tmp_path / "shards", txt=b" "))[0].load().captions == ()
    (tmp_path / "t.csv").write_text("path,caption\n0.jpg,  \n")
    assert find(tmp_path / "t.csv")[0].load().captions == ()


def test_a_caption_that_cannot_be_read_is_said(tmp_path):
    as_folder(tmp_path)
    (tmp_path / "0.txt").write_bytes(b"\xff")
    with pytest.raises(BadSample, match="caption is not UTF-8"):
        find(tmp_path)[0].load()
    (tmp_path / "t.csv").write_bytes(b"path,caption\n0.jpg,\xff\n")
    with pytest.raises(BadSample, match="caption is not UTF-8"):
        find(tmp_path / "t.csv")[0].load()


def test_a_row_without_a_picture_is_said_where_it_stands(tmp_path):
    (tmp_path / "t.csv").write_text("path\n0.jpg\n\n gone.jpg\n")
    with pytest.raises(BadSample, match=r"t\.csv:4: unreadable file"):
        find(tmp_path / "t.csv")[1].load()


@pytest.mark.parametrize("name", ["name with space.jpg", "ü.JPG", b"\xff.jpg"])
def test_a_file_of_any_name_is_found(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(encoded(1))
    (picture,) = find(tmp_path)
    assert picture.load().image_bytes == encoded(1)
    picture.location.key.encode()  # a store takes only text


def test_a_file_that_changed_has_another_stamp(tmp_path):
    for data in (tmp_path, as_csv(tmp_path)):
        before = [picture.location for picture in find(data)]
        time = (tmp_path / "1.jpg").stat().st_mtime_ns
        os.utime(tmp_path / "1.jpg", ns=(time, time + 1))
        after = [picture.location for picture in find(data)]
        assert [a.stamp == b.stamp for a, b in zip(before, after, strict=True)] == [True, False, True]
        assert [spot.key for spot in before] == [spot.key for spot in after]


def test_a_picture_that_changed_inside_a_table_has_another_stamp(tmp_path):
    for number in (1, 2):
        pq.write_table(pa.table({"image": [encoded(number), encoded(3)]}), tmp_path / f"{number}.parquet")
    before = [picture.location.stamp for picture in find(tmp_path / "1.parquet")]
    after = [picture.location.stamp for picture in find(tmp_path / "2.parquet")]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True]


def test_a_shard_written_anew_has_other_stamps(tmp_path):
    shard = write_shard(tmp_path)
    before = [picture.location for picture in find(shard)]
    shard.touch()
    after = [picture.location for picture in find(shard)]
    assert all(a.stamp != b.stamp and a.key == b.key for a, b in zip(before, after, strict=True))


def test_a_shard_that_is_gone_makes_bad_samples_and_no_crash(tmp_path):
    found = find(write_shard(tmp_path))
    (tmp_path / "00000.tar").unlink()
    with pytest.raises(DataError):
        found[0].load()


def test_reading_from_shards_leaves_no_file_open(tmp_path):
    """Threads read while the next shards are found: they must not share a handle that somebody closes."""
    found = find(write_shard(tmp_path))
    before = set(Path("/proc/self/fd").iterdir())
    for picture in found:
        picture.load()
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_table_without_pictures_says_which_columns_it_has(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"no image column .*Its columns are: a, b"):
        find(tmp_path / "t.csv")
