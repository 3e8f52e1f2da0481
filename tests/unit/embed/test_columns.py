"""A store keeps and fills its extra columns, from tables, shards, class folders and EXIF."""

import io
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from zebra.data.shard_writer import ShardWriter
from zebra.embed import pipeline
from zebra.errors import ConfigError
from zebra.store import Store, StoreError

from .conftest import encoded


def write_table(path: Path, rows: dict[str, str], header: str = "path,artist,year") -> Path:
    path.write_text("\n".join([header, *(f"photos/{name}.jpg,{cells}" for name, cells in rows.items())]) + "\n")
    return path


def read_column(tmp_path: Path, column: str, key: str = "path") -> dict[str, object]:
    store = Store.open(tmp_path / "store")
    rows = [row for batch in store.scan([key, column]) for row in batch.to_pylist()]
    return {Path(str(row[key])).name: row[column] for row in rows}


def exif_image(number: int, taken: str = "2021:05:03 12:30:00", make: str = "ACME", model: str = "Z1") -> bytes:
    image = Image.open(io.BytesIO(encoded(number)))
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = make, model
    exif.get_ifd(0x8769)[0x9003] = taken
    exif.get_ifd(0x8825).update({1: "S", 2: (48.0, 30.0, 0.0), 3: "E", 4: (2.0, 15.0, 36.0)})
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_a_second_run_without_columns_keeps_and_fills_them(photos, embed, tmp_path):
    photos()
    table = write_table(tmp_path / "t.csv", {"000": "Ada,1999", "001": "Bob,2001"})
    embed(table, columns=("artist", "year"))
    assert embed(table).unchanged == 2
    write_table(table, {"000": "Ada,1999", "001": "Bea,2001", "002": "Cyd,"})
    result = embed(table)
    assert (result.unchanged, result.reused, result.embedded) == (1, 1, 1)
    assert read_column(tmp_path, "artist") == {"000.jpg": "Ada", "001.jpg": "Bea", "002.jpg": "Cyd"}
    assert read_column(tmp_path, "year") == {"000.jpg": 1999, "001.jpg": 2001, "002.jpg": None}


def test_naming_one_column_leaves_the_others(photos, embed, tmp_path):
    photos()
    table = write_table(tmp_path / "t.csv", {"000": "Ada,1999"})
    embed(table, columns=("artist", "year"))
    write_table(table, {"000": "Bea,2005"})
    embed(table, columns=("year",))
    assert read_column(tmp_path, "artist") == {"000.jpg": "Bea"}
    assert read_column(tmp_path, "year") == {"000.jpg": 2005}


def test_a_column_that_left_the_data_keeps_its_values(photos, embed, tmp_path):
    photos()
    table = write_table(tmp_path / "t.csv", {"000": "Ada,1999", "001": "Bob,2001"})
    embed(table, columns=("artist", "year"))
    table.write_text("path,year\nphotos/001.jpg,2010\nphotos/000.jpg,2011\n")  # and the rows have changed places
    embed(table)
    assert read_column(tmp_path, "artist") == {"000.jpg": "Ada", "001.jpg": "Bob"}
    assert read_column(tmp_path, "year") == {"000.jpg": 2011, "001.jpg": 2010}


def test_a_column_can_be_added_later_and_nothing_is_embedded_again(photos, embed, tmp_path):
    photos()
    table = write_table(tmp_path / "t.csv", {"000": "Ada,1999", "001": "Bob,2001"})
    embed(table, columns=("year",))
    result = embed(table, columns=("artist",))
    assert (result.embedded, result.reused) == (0, 2)
    assert read_column(tmp_path, "artist") == {"000.jpg": "Ada", "001.jpg": "Bob"}
    assert read_column(tmp_path, "year") == {"000.jpg": 1999, "001.jpg": 2001}


def test_adding_a_column_resumes_after_a_stop(photos, embed, tmp_path, monkeypatch):
    root = photos()
    for number in range(6):
        (root / f"{number:03d}.jpg").write_bytes(exif_image(number))
    embed(root)
    store = Store.open(tmp_path / "store")
    assert "latitude" not in store.schema.names
    monkeypatch.setattr(pipeline, "COMMIT_ROWS", 1)

    def stop(progress):
        if progress.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(root, columns=("latitude",), callback=stop, workers=1, batch_size=1)
    assert None in read_column(tmp_path, "latitude").values()
    result = embed(root)
    assert result.unchanged > 0
    assert result.embedded == 0
    assert set(read_column(tmp_path, "latitude").values()) == {-48.5}


def test_a_store_from_before_keeps_its_columns_and_reads_nothing_again(photos, embed, tmp_path, monkeypatch):
    root = photos()
    monkeypatch.setattr("zebra.embed.columns.DEFAULT_COLUMNS", ())
    embed(root)
    monkeypatch.undo()
    result = embed(root)
    assert (result.unchanged, result.columns) == (6, ())
    assert "taken" not in Store.open(tmp_path / "store").schema.names


def test_moved_files_keep_values_that_the_data_does_not_have(photos, embed, tmp_path):
    root = photos()
    table = write_table(tmp_path / "t.csv", {f"{n:03d}": f"artist {n},{n}" for n in range(6)})
    embed(table, columns=("artist", "year"))
    (root / "sub").mkdir()
    (root / "003.jpg").rename(root / "sub" / "moved.jpg")
    embed(root, prune=True)
    assert read_column(tmp_path, "artist", "location")["moved.jpg"] == "artist 3"
    assert read_column(tmp_path, "year", "location")["000.jpg"] == 0


def test_a_changed_file_keeps_its_values_and_another_image_in_the_same_line_does_not(photos, embed, tmp_path):
    root = photos()
    embed(root)
    store = Store.open(tmp_path / "store")
    with store:
        store.add_columns(pa.schema([pa.field("rating", pa.int64())]))
        ids = [row["id"] for batch in store.scan(["id"]) for row in batch.to_pylist()]
        store.set_values(pa.table({"id": ids, "rating": [1, 2, 3, 4, 5, 6]}))
    (root / "002.jpg").write_bytes(encoded(200))
    embed(root)
    assert read_column(tmp_path, "rating")["002.jpg"] == 3
    table = tmp_path / "t.csv"
    table.write_text("path\nphotos/000.jpg\n")
    embed(table)
    (root / "new.jpg").write_bytes(encoded(300))
    table.write_text("path\nphotos/new.jpg\n")
    embed(table)
    assert read_column(tmp_path, "rating")["new.jpg"] is None


def test_an_incompatible_column_of_another_dataset_is_not_copied_and_a_warning_says_so(photos, embed, tmp_path):
    photos()
    embed(write_table(tmp_path / "a.csv", {"000": "Ada,1999"}), columns=("year",))
    other = write_table(tmp_path / "b.csv", {"001": "Bob,long ago"})
    with pytest.warns(UserWarning, match="'year'.*holds string, and that of the store int64"):
        result = embed(other)
    assert (result.embedded, result.columns) == (1, ())


def test_all_copies_the_columns_of_a_table_that_a_store_can_have(photos, embed, tmp_path):
    photos()
    header = "path,caption,width,taken,sold,a.b"
    table = write_table(tmp_path / "t.csv", {"000": "a dog,7,2021-05-03,3.5,x"}, header)
    result = embed(table, columns=("all",))
    assert result.columns == ("taken", "sold", "camera")
    assert read_column(tmp_path, "taken") == {"000.jpg": datetime(2021, 5, 3)}
    assert read_column(tmp_path, "width") == {"000.jpg": 40}


def test_class_folders_fill_the_class_and_other_folders_do_not(embed, tmp_path):
    for name in ("dogs/a", "dogs/deep/b", "cats/c"):
        path = tmp_path / "pets" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(len(name)))
    assert embed(tmp_path / "pets").columns == ("class", "taken", "camera")
    assert read_column(tmp_path, "class") == {"a.jpg": "dogs", "b.jpg": "dogs", "c.jpg": "cats"}
    (tmp_path / "pets" / "loose.jpg").write_bytes(encoded(9))
    assert "class" not in embed(tmp_path / "pets", out="flat").columns


def test_exif_gives_date_and_camera_and_the_position_on_request(embed, tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    (root / "a.jpg").write_bytes(exif_image(1))
    (root / "b.jpg").write_bytes(exif_image(2, "0000:00:00 00:00:00", "Canon", "Canon R5"))
    (root / "c.jpg").write_bytes(encoded(3))
    assert embed(root).columns == ("taken", "camera")
    assert read_column(tmp_path, "taken") == {"a.jpg": datetime(2021, 5, 3, 12, 30), "b.jpg": None, "c.jpg": None}
    assert read_column(tmp_path, "camera") == {"a.jpg": "ACME Z1", "b.jpg": "Canon R5", "c.jpg": None}
    embed(root, columns=("latitude", "longitude"))
    assert read_column(tmp_path, "latitude")["a.jpg"] == -48.5
    assert read_column(tmp_path, "longitude")["a.jpg"] == pytest.approx(2.26)


def write_shard(folder: Path, rows: list[object]) -> Path:
    with ShardWriter(folder) as writer:
        for number, row in enumerate(rows):
            data = row if isinstance(row, bytes) else json.dumps(row).encode()
            writer.write(f"{number}", {"jpg": encoded(number), "txt": b"text", "json": data})
    return folder


def test_keys_of_shard_json_become_columns(embed, tmp_path):
    rows = [
        {"caption": "c", "url": "http://a", "views": 3, "nsfw": False, "tags": ["x"], "width": 1},
        {"url": None, "views": None, "nsfw": True, "extra": "only here"},
        [1, 2],
        b"{",
    ]
    result = embed(write_shard(tmp_path / "shards", rows), columns=("all",))
    assert result.skipped == {"broken JSON": 1}
    assert result.columns == ("url", "views", "nsfw", "extra", "taken", "camera")
    key = "location"
    assert read_column(tmp_path, "views", key) == {"0": 3, "1": None, "2": None}
    assert read_column(tmp_path, "nsfw", key) == {"0": False, "1": True, "2": None}
    assert read_column(tmp_path, "extra", key) == {"0": None, "1": "only here", "2": None}
    with pytest.raises(ConfigError, match=r"no column 'viewss'.*Did you mean 'views'"):
        embed(tmp_path / "shards", columns=("viewss",))


def test_a_number_that_is_too_large_skips_one_image(embed, tmp_path, monkeypatch):
    monkeypatch.setattr("zebra.data.shards.INFER_SCHEMA_SAMPLES", 1)
    result = embed(
        write_shard(tmp_path / "shards", [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 2**70}, {"n": [1]}, {"n": "x"}]),
        columns=("n",),
    )
    assert (result.embedded, result.skipped) == (3, {"column of another type": 3})


def test_class_names_and_columns_of_a_saved_dataset(embed, tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), "year": datasets.Value("int32")}
    )
    images = [{"bytes": encoded(n), "path": None} for n in range(3)]
    data = datasets.Dataset.from_dict({"image": images, "label": [1, 0, -1], "year": [1, 2, None]}, features=features)
    data.save_to_disk(str(tmp_path / "saved"))
    result = embed(tmp_path / "saved", columns=("year", "class"))
    assert result.columns == ("year", "class")
    values = read_column(tmp_path, "class", "location")
    assert [values[f"saved:{n}"] for n in range(2)] == ["dog", "cat"]
    assert read_column(tmp_path, "year", "location")["saved:1"] == 2


@pytest.mark.parametrize("seed", range(20))
def test_damaged_exif_never_raises(seed):
    from zebra.images.exif import read_exif

    random = np.random.default_rng(seed)
    image = Image.open(io.BytesIO(exif_image(1)))
    block = bytearray(image.info["exif"])
    for position in random.integers(6, len(block), 40):
        block[position] = random.integers(256)
    image.info["exif"] = bytes(block[: random.integers(6, len(block))])
    read_exif(image)


def test_a_store_whose_creation_was_interrupted_is_created_again(photos, embed, tmp_path):
    root = photos()
    embed(root)
    commit = tmp_path / "store" / "commit.json"
    commit.write_text(json.dumps(json.loads(commit.read_text()) | {"version": 0, "num_rows": 0}))
    assert not Store.exists(tmp_path / "store")
    assert embed(root).embedded == 6


def test_a_row_and_its_replacement_are_one_commit(photos, embed, tmp_path, monkeypatch):
    root = photos()
    table = write_table(tmp_path / "t.csv", {"000": "Ada,1999", "001": "Bob,2001"})
    embed(table, columns=("artist", "year"))
    table.write_text("path,year\nphotos/000.jpg,1\nphotos/001.jpg,2\n")

    def fail(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="Free disk space"):
        patch.setattr("zebra.store.lance_table.LanceTable.append", fail)
        embed(table)
    assert read_column(tmp_path, "artist") == {"000.jpg": "Ada", "001.jpg": "Bob"}
    embed(table)
    assert read_column(tmp_path, "artist") == {"000.jpg": "Ada", "001.jpg": "Bob"}
    assert read_column(tmp_path, "year") == {"000.jpg": 1, "001.jpg": 2}
    assert (root / "000.jpg").exists()


def test_columns_are_kept_on_a_ray_cluster(cluster, photos, embed, tmp_path):
    root = photos(range(2))
    (root / "000.jpg").write_bytes(exif_image(0))
    table = write_table(tmp_path / "t.csv", {"000": "Ada,1999", "001": "Bob,2001"})
    embed(table, columns=("artist", "year", "camera"), engine="ray")
    table.write_text("path,year\nphotos/001.jpg,2\nphotos/000.jpg,1\n")
    embed(table, engine="ray")
    assert read_column(tmp_path, "artist") == {"000.jpg": "Ada", "001.jpg": "Bob"}
    assert read_column(tmp_path, "year") == {"000.jpg": 1, "001.jpg": 2}
    assert read_column(tmp_path, "camera") == {"000.jpg": "ACME Z1", "001.jpg": None}
