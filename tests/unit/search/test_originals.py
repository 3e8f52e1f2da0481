"""The original of a row is read from its location, and only if it is unchanged."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from zebra.config.embed import EmbedConfig
from zebra.data.shard_writer import ShardWriter
from zebra.search.searcher import Searcher
from zebra.store import Store
from zebra.workflows import embed
from zebra.workflows.search import open_searcher


def encoded(number, format="JPEG", size=(400, 300)):
    pixels = np.random.default_rng(number).integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(buffer, format)
    return buffer.getvalue()


@pytest.fixture
def embed_and_open(model, tmp_path):
    """Return a function that embeds data and returns a searcher and the ids."""

    def run(data: Path, **options) -> tuple[Searcher, list[str]]:
        out = tmp_path / "store"
        embed.run(EmbedConfig(model=str(model), data=str(data), out=str(out), precision="fp32", workers=1, **options))
        ids = [id for batch in Store.open(out).scan(["id"]) for id in batch["id"].to_pylist()]
        return open_searcher(out), ids

    return run


def test_files_are_read_with_their_media_type(embed_and_open, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, format in enumerate(["JPEG", "PNG", "WEBP", "GIF", "BMP"]):
        (folder / f"{number}.{format.lower().replace('jpeg', 'jpg')}").write_bytes(encoded(number, format))
    searcher, ids = embed_and_open(folder)
    for number, (id, format) in enumerate(zip(ids, ["jpeg", "png", "webp", "gif", "bmp"], strict=True)):
        image = searcher.read_image(id)
        assert image.media_type == f"image/{format}"
        assert image.data == next(folder.glob(f"{number}.*")).read_bytes()


def test_files_with_odd_names_are_read(embed_and_open, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    names = [b"a\nb.jpg", b"caf\xe9.jpg", b"\xff\xfe.jpg", b"a\\udce9.jpg", b"%2e%2e.jpg", b"x:5.jpg", b"e\xcc\x81.jpg"]
    for number, name in enumerate(names):
        try:
            (folder / os.fsdecode(name)).write_bytes(encoded(number))
        except OSError:  # macOS takes UTF-8 only
            pytest.skip("the file system does not take such names")
    searcher, ids = embed_and_open(folder)
    images = [searcher.read_image(id).data for id in ids]
    assert sorted(images) == sorted(encoded(number) for number in range(len(names)))


def test_images_are_read_from_a_tar_shard(embed_and_open, tmp_path):
    with ShardWriter(tmp_path / "shards") as writer:
        for number in range(3):
            writer.write(f"{number:03d}", {"jpg": encoded(number), "txt": b"words"})
    searcher, ids = embed_and_open(tmp_path / "shards")
    assert [searcher.read_image(id).data for id in ids] == [encoded(number) for number in range(3)]
    (tmp_path / "shards" / "00000.tar").unlink()
    assert searcher.read_image(ids[0]) is None


@pytest.mark.parametrize("nested", [False, True])
def test_images_are_read_from_the_rows_of_a_parquet_file(embed_and_open, tmp_path, nested):
    images = [encoded(number) for number in range(7)]
    cells = [{"bytes": image, "path": None} for image in images] if nested else images
    table = pa.table({"other": [b"x"] * 7, "image": cells, "caption": ["words"] * 7})
    pq.write_table(table, tmp_path / "table.parquet", row_group_size=3)
    searcher, ids = embed_and_open(tmp_path / "table.parquet")
    assert [searcher.read_image(id).data for id in ids] == images


def test_images_of_a_table_are_read_from_their_files(embed_and_open, tmp_path):
    (tmp_path / "one.jpg").write_bytes(encoded(1))
    (tmp_path / "table.csv").write_text("path,caption,year\none.jpg,words,2021\n")
    searcher, ids = embed_and_open(tmp_path / "table.csv", columns=("year",))
    assert searcher.read_image(ids[0]).data == encoded(1)
    assert ("year", "number") in searcher.filterable_columns


def test_images_of_a_saved_dataset_are_read_from_it(embed_and_open, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = {"image": [{"bytes": encoded(n), "path": None} for n in range(3)], "caption": ["words"] * 3}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features).save_to_disk(tmp_path / "saved")
    searcher, ids = embed_and_open(tmp_path / "saved")
    assert [searcher.read_image(id).data for id in ids] == [encoded(number) for number in range(3)]


def test_a_changed_or_deleted_image_has_no_original_but_a_stored_thumbnail(embed_and_open, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(encoded(number))
    searcher, ids = embed_and_open(folder)
    (folder / "0.jpg").write_bytes(encoded(9))
    (folder / "1.jpg").unlink()
    (folder / "1.jpg").mkdir()
    for id in ids[:2]:
        assert searcher.read_image(id) is None
        assert max(Image.open(io.BytesIO(searcher.read_thumbnail(id, 300))).size) == 96
    assert searcher.read_image(ids[2]) is not None
    assert searcher.read_image("no such id") is None
    assert searcher.read_thumbnail("no such id") is None


def test_thumbnails_come_from_the_store_if_large_enough_and_else_from_the_original(embed_and_open, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "0.png").write_bytes(encoded(0, "PNG"))
    searcher, (id,) = embed_and_open(folder)
    assert Image.open(io.BytesIO(searcher.read_thumbnail(id, 90))).size == (96, 72)
    assert Image.open(io.BytesIO(searcher.read_thumbnail(id, 200))).size == (200, 150)
    assert Image.open(io.BytesIO(searcher.read_thumbnail(id, 5000))).size == (400, 300)


def test_thumbnails_are_made_if_the_store_has_none(embed_and_open, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "0.jpg").write_bytes(encoded(0))
    searcher, (id,) = embed_and_open(folder, thumbnail_size=0)
    assert Image.open(io.BytesIO(searcher.read_thumbnail(id, 64))).size == (64, 48)
    (folder / "0.jpg").unlink()
    assert searcher.read_thumbnail(id, 64) is None


def test_a_row_can_be_written_as_json(embed_and_open, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "0.jpg").write_bytes(encoded(0))
    searcher, (id,) = embed_and_open(folder)
    assert json.loads(json.dumps(searcher.read_row(id)))["width"] == 400
