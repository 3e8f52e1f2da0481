"""Images of any layout are scanned in order, with optional captions, and can be read in another process."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from zebra.config.data import DataConfig
from zebra.data.shard_writer import ShardWriter
from zebra.data.sources import open_images
from zebra.errors import BadSample, DataError


def encoded(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def scan(data, columns=()):
    source = open_images(data, DataConfig(), columns)
    image_refs = list(source.scan())
    assert source.num_images() == len(image_refs)
    return image_refs


def write_shard(folder: Path, **fields: bytes) -> Path:
    with ShardWriter(folder) as writer:
        for number in range(3):
            writer.write(f"{number}", {"jpg": encoded(number), **fields})
    return folder / "00000.tar"


def as_folder(root: Path) -> Path:
    (root / "in").mkdir()
    for number, name in enumerate(("0.jpg", "1.jpg", "in/2.jpg")):
        (root / name).write_bytes(encoded(number))
    (root / "lonely.txt").write_text("without an image")
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
def test_images_without_captions_are_scanned_in_order_and_can_be_pickled(tmp_path, layout):
    image_refs = pickle.loads(pickle.dumps(scan(layout(tmp_path))))
    assert [image_ref.load().image for image_ref in image_refs] == [encoded(number) for number in range(3)]
    assert all(image_ref.load().captions == () for image_ref in image_refs)
    assert len({image_ref.location.key for image_ref in image_refs}) == 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_locations_and_stamps_do_not_change(tmp_path, layout):
    data = layout(tmp_path)
    assert [image_ref.location for image_ref in scan(data)] == [image_ref.location for image_ref in scan(data)]


def test_a_blank_caption_is_no_caption(tmp_path):
    as_folder(tmp_path)
    (tmp_path / "0.txt").write_text(" \n")
    assert scan(tmp_path)[0].load().captions == ()
    assert scan(write_shard(tmp_path / "shards", txt=b" "))[0].load().captions == ()
    (tmp_path / "t.csv").write_text("path,caption\n0.jpg,  \n")
    assert scan(tmp_path / "t.csv")[0].load().captions == ()


def test_an_unreadable_caption_makes_a_bad_sample(tmp_path):
    as_folder(tmp_path)
    (tmp_path / "0.txt").write_bytes(b"\xff")
    with pytest.raises(BadSample, match="caption is not UTF-8"):
        scan(tmp_path)[0].load()
    (tmp_path / "t.csv").write_bytes(b"path,caption\n0.jpg,\xff\n")
    with pytest.raises(BadSample, match="caption is not UTF-8"):
        scan(tmp_path / "t.csv")[0].load()


def test_a_row_without_an_image_is_reported_with_its_line(tmp_path):
    (tmp_path / "t.csv").write_text("path\n0.jpg\n\n gone.jpg\n")
    with pytest.raises(BadSample, match=r"t\.csv:4: unreadable file"):
        scan(tmp_path / "t.csv")[1].load()


@pytest.mark.parametrize("name", ["name with space.jpg", "ü.JPG", b"\xff.jpg"])
def test_a_file_with_any_name_is_scanned(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(encoded(1))
    (image_ref,) = scan(tmp_path)
    assert image_ref.load().image == encoded(1)
    image_ref.location.key.encode()  # a store accepts only valid text


def test_a_file_that_changed_has_another_stamp(tmp_path):
    for data in (tmp_path, as_csv(tmp_path)):
        before = [image_ref.location for image_ref in scan(data)]
        time = (tmp_path / "1.jpg").stat().st_mtime_ns
        os.utime(tmp_path / "1.jpg", ns=(time, time + 1))
        after = [image_ref.location for image_ref in scan(data)]
        assert [a.stamp == b.stamp for a, b in zip(before, after, strict=True)] == [True, False, True]
        assert [location.key for location in before] == [location.key for location in after]


def test_a_changed_image_inside_a_table_has_another_stamp(tmp_path):
    for number in (1, 2):
        pq.write_table(pa.table({"image": [encoded(number), encoded(3)]}), tmp_path / f"{number}.parquet")
    before = [image_ref.location.stamp for image_ref in scan(tmp_path / "1.parquet")]
    after = [image_ref.location.stamp for image_ref in scan(tmp_path / "2.parquet")]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True]


def test_a_rewritten_shard_has_other_stamps(tmp_path):
    shard = write_shard(tmp_path)
    before = [image_ref.location for image_ref in scan(shard)]
    shard.touch()
    after = [image_ref.location for image_ref in scan(shard)]
    assert all(a.stamp != b.stamp and a.key == b.key for a, b in zip(before, after, strict=True))


def test_a_missing_shard_is_a_data_error(tmp_path):
    image_refs = scan(write_shard(tmp_path))
    (tmp_path / "00000.tar").unlink()
    with pytest.raises(DataError):
        image_refs[0].load()


def test_reading_from_shards_leaves_no_file_open(tmp_path):
    """Threads read while the next shards are scanned, so they must not share a descriptor that is closed."""
    image_refs = scan(write_shard(tmp_path))
    before = set(Path("/proc/self/fd").iterdir())
    for image_ref in image_refs:
        image_ref.load()
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_the_error_for_a_table_without_images_lists_its_columns(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"no image column .*Its columns are: a, b"):
        scan(tmp_path / "t.csv")
