"""Embedding a dataset: unchanged images are not read again, and every unusable image is reported."""

import csv
import os
import signal
import threading
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zebra
from zebra.data.shard_writer import ShardWriter
from zebra.embed import pipeline, preprocessing
from zebra.errors import ConfigError, DataError, DeviceLost
from zebra.pretrained.bundle import Bundle
from zebra.store import Store, StoreError

from ...tiny_model import save_tiny_model
from .conftest import encoded


def read_rows(tmp_path: Path, *columns: str) -> list[dict]:
    store = Store.open(tmp_path / "store")
    return [row for batch in store.scan(columns or store.schema.names) for row in batch.to_pylist()]


@pytest.fixture
def counts(monkeypatch):
    """Count the images that are read and those that are embedded."""
    calls = {"read": 0, "encoded": 0}
    read, encode = pipeline.read_record, pipeline.encode_batch
    lock = threading.Lock()

    def count_calls(name, function, amount):
        def call(first, *rest):
            with lock:
                calls[name] += amount(first)
            return function(first, *rest)

        return call

    monkeypatch.setattr(pipeline, "read_record", count_calls("read", read, lambda _: 1))
    monkeypatch.setattr(pipeline, "encode_batch", count_calls("encoded", encode, len))
    return calls


def test_rows_hold_all_columns_of_an_image_in_the_order_of_the_dataset(photos, embed, tmp_path, model):
    folder = photos(range(10))
    result = embed(folder)
    assert (result.embedded, result.num_rows, result.precision, result.finished) == (10, 10, "fp32", True)
    rows = read_rows(tmp_path)
    assert [row["path"] for row in rows] == [str(folder / f"{n:03d}.jpg") for n in range(10)]
    assert [row["caption"] for row in rows] == [None if n % 2 == 0 else f"image {n}\n" for n in range(10)]
    assert {(row["width"], row["height"]) for row in rows} == {(40, 30)}
    data = (folder / "003.jpg").read_bytes()
    assert rows[3]["digest"] == sha256(data).hexdigest()
    assert rows[3]["thumbnail"].startswith(b"\xff\xd8")
    expected = zebra.load(model).encode_images(sorted(folder.glob("*.jpg"))).numpy()
    stored = np.array([row["vector"] for row in rows], np.float32)
    np.testing.assert_allclose(stored, expected, atol=6e-4)  # float16


def test_vectors_equal_those_of_the_model_up_to_float32_rounding(photos, embed, tmp_path, model):
    folder = photos()
    embed(folder, vector_dtype="float32")
    expected = zebra.load(model).encode_images(sorted(folder.glob("*.jpg"))).numpy()
    _, stored = Store.open(tmp_path / "store").read_vectors()
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, expected, atol=1e-6)


def test_a_second_run_reads_nothing(photos, embed, counts):
    folder = photos()
    embed(folder)
    counts.update(read=0, encoded=0)
    result = embed(folder)
    assert counts == {"read": 0, "encoded": 0}
    assert (result.unchanged, result.embedded, result.num_rows) == (6, 0, 6)


def test_only_new_and_changed_files_are_embedded(photos, embed, counts, tmp_path):
    folder = photos()
    embed(folder)
    counts.update(read=0, encoded=0)
    photos([6, 7])
    (folder / "002.jpg").write_bytes(encoded(102))
    result = embed(folder)
    assert counts == {"read": 3, "encoded": 3}
    assert (result.unchanged, result.embedded, result.num_rows) == (5, 3, 8)
    digests = {Path(row["path"]).name: row["digest"] for row in read_rows(tmp_path, "path", "digest")}
    assert len(digests) == 8
    assert digests["002.jpg"] == sha256(encoded(102)).hexdigest()


def test_a_touched_file_is_read_but_not_embedded(photos, embed, counts, tmp_path):
    folder = photos()
    embed(folder)
    before = {row["id"]: row["vector"] for row in read_rows(tmp_path)}
    os.utime(folder / "002.jpg", (1, 1))
    counts.update(read=0, encoded=0)
    result = embed(folder)
    assert counts == {"read": 1, "encoded": 0}
    assert (result.reused, result.num_rows) == (1, 6)
    assert {row["id"]: row["vector"] for row in read_rows(tmp_path)} == before
    assert embed(folder).unchanged == 6


def test_a_changed_caption_is_stored_without_embedding(photos, embed, counts, tmp_path):
    folder = photos()
    embed(folder)
    counts["encoded"] = 0
    (folder / "003.txt").write_text("other words")
    (folder / "004.txt").write_text("first words")
    embed(folder)
    captions = {Path(row["path"]).stem: row["caption"] for row in read_rows(tmp_path, "path", "caption")}
    assert (captions["003"], captions["004"]) == ("other words", "first words")
    assert counts["encoded"] == 0


def test_equal_bytes_are_embedded_once_and_get_separate_rows(photos, embed, counts, tmp_path):
    folder = photos(range(12))
    for copy in range(5):
        (folder / f"x{copy}.jpg").write_bytes(encoded(3))
    (folder / "x0.txt").write_text("a copy")
    result = embed(folder, batch_size=2)
    assert counts["encoded"] == 12
    assert (result.embedded, result.reused, result.num_rows) == (12, 5, 17)
    rows = read_rows(tmp_path)
    same = [row for row in rows if row["digest"] == sha256(encoded(3)).hexdigest()]
    assert len({row["id"] for row in same}) == 6
    assert len({tuple(row["vector"]) for row in same}) == 1
    assert {row["caption"] for row in same} == {None, "a copy", "image 3\n"}


def test_a_moved_folder_reuses_its_vectors(photos, embed, counts, tmp_path):
    folder = photos()
    embed(folder)
    counts["encoded"] = 0
    folder.rename(tmp_path / "moved")
    result = embed(tmp_path / "moved")
    assert (result.reused, result.embedded, counts["encoded"]) == (6, 0, 0)


def test_stale_rows_are_kept_and_counted_until_they_are_pruned(photos, embed, tmp_path):
    folder, other = photos(), photos(range(50, 53), "other")
    embed(folder)
    embed(other)
    (folder / "001.jpg").unlink()
    (folder / "004.jpg").unlink()
    result = embed(folder)
    assert (result.stale, result.pruned, result.num_rows) == (2, 0, 9)
    result = embed(folder, prune=True)
    assert (result.stale, result.pruned, result.num_rows) == (2, 2, 7)
    names = [Path(row["path"]).name for row in read_rows(tmp_path, "path")]
    assert names == ["000.jpg", "002.jpg", "003.jpg", "005.jpg", "050.jpg", "051.jpg", "052.jpg"]


def test_rows_are_found_after_other_rows_were_replaced(photos, embed, tmp_path, monkeypatch):
    """Deleting rows moves all rows after them, and removes their features."""
    monkeypatch.setattr(pipeline, "COMMIT_ROWS", 1)
    folder = photos(range(8))
    embed(folder)
    before = {row["digest"]: row["vector"] for row in read_rows(tmp_path)}
    for number in (1, 2, 6):
        (folder / f"{number:03d}.jpg").write_bytes(encoded(200 + number))
    (folder / "moved.jpg").write_bytes(encoded(7))
    (folder / "replaced.jpg").write_bytes(encoded(2))
    result = embed(folder, batch_size=1, workers=1)
    assert (result.embedded, result.reused, result.num_rows) == (4, 1, 10)
    rows = {Path(row["path"]).stem: row for row in read_rows(tmp_path)}
    for name in ("moved", "replaced"):
        assert rows[name]["vector"] == pytest.approx(before[rows[name]["digest"]], abs=1e-3)
    assert rows["002"]["digest"] == sha256(encoded(202)).hexdigest()


def test_unusable_files_are_listed_with_their_reason(photos, embed, skips, tmp_path):
    folder = photos(range(10))
    (folder / "a.jpg").write_bytes(b"")
    (folder / "b.jpg").write_bytes(encoded(1)[:-300])
    (folder / "c.png").write_bytes(b"no image")
    (folder / "d.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "e.jpg").write_bytes(encoded(99))
    (folder / "e.txt").write_bytes(b"\xff\xfe\xfa")
    result = embed(folder)
    assert result.num_rows == result.embedded == 10
    reasons = {Path(skip["id"]).name: skip["reason"] for skip in skips()}
    assert reasons == {
        "a.jpg": "empty file",
        "b.jpg": "truncated image",
        "c.png": "not an image",
        "d.jpg": "unreadable file",
        "e.jpg": "caption is not UTF-8",
    }
    assert sum(result.skipped.values()) == 5


def test_equal_bad_bytes_are_reported_at_each_location(photos, embed, skips):
    folder = photos(range(10))
    for name in "abc":
        (folder / f"{name}.jpg").write_bytes(b"no image")
    assert embed(folder, batch_size=2).skipped == {"not an image": 3}
    assert sorted(Path(skip["id"]).name for skip in skips()) == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_file_that_disappears_after_listing_is_unreadable(photos, embed, monkeypatch):
    folder = photos(range(10))
    read = pipeline.read_record

    def delete_then_read(image_ref):
        if image_ref.location.path.endswith("004.jpg"):
            (folder / "004.jpg").unlink()
        return read(image_ref)

    monkeypatch.setattr(pipeline, "read_record", delete_then_read)
    result = embed(folder)
    assert result.skipped == {"unreadable file": 1}
    assert result.num_rows == 9


def test_an_unexpected_decoder_error_skips_one_image(photos, embed, monkeypatch):
    folder = photos(range(4))
    decode = preprocessing.decode_image

    def fail(data, location, **options):
        if location.endswith("002.jpg"):
            raise ZeroDivisionError("decoder error")
        return decode(data, location, **options)

    monkeypatch.setattr(preprocessing, "decode_image", fail)
    assert embed(folder).skipped == {"damaged image": 1}


def test_too_many_unusable_images_are_an_error_with_the_reasons(photos, embed, tmp_path):
    folder = photos(range(2))
    for name in "abcd":
        (folder / f"{name}.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"4 of 6 images .* 50% allowed: 4 not an image"):
        embed(folder)
    assert len(read_rows(tmp_path)) == 2, "the usable images are written"


def test_a_dataset_without_usable_images_is_an_error(photos, embed):
    folder = photos([])
    (folder / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="1 not an image"):
        embed(folder)


def test_a_folder_without_images_is_an_error_and_creates_no_store(photos, embed, tmp_path):
    folder = photos([])
    (folder / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="no images"):
        embed(folder)
    assert not (tmp_path / "store").exists()


def test_vectors_of_two_models_are_not_mixed(photos, embed, tmp_path, model):
    folder = photos()
    embed(folder)
    other = save_tiny_model(tmp_path / "other", seed=1)
    fingerprints = [zebra.load(path).fingerprint for path in (model, other)]
    with pytest.raises(StoreError) as raised:
        embed(folder, model=str(other))
    assert all(fingerprint in str(raised.value) for fingerprint in fingerprints)


def test_another_vector_type_than_that_of_the_store_is_rejected(photos, embed):
    folder = photos()
    embed(folder, vector_dtype="float32")
    assert embed(folder).unchanged == 6
    with pytest.raises(ConfigError, match="stores vectors as float32"):
        embed(folder, vector_dtype="float16")


def test_columns_and_captions_of_a_table_are_stored(photos, embed, tmp_path):
    photos()
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "caption", "title", "year", "price", "who"])
        writer.writerow(["photos/000.jpg", "one", "two", "1999", "2.5", "Ada"])
        writer.writerow(["photos/001.jpg", "", " ", "", "3", ""])
        writer.writerow(["photos/000.jpg", "again", "", "2001", "", "Bob"])
    result = embed(tmp_path / "t.csv", columns=("year", "price", "who"))
    assert (result.embedded, result.reused) == (2, 1)
    rows = read_rows(tmp_path, "caption", "other_captions", "year", "price", "who", "path")
    assert [tuple(row.values())[:5] for row in rows] == [
        ("one", ["two"], 1999, 2.5, "Ada"),
        (None, None, None, 3.0, None),
        ("again", None, 2001, None, "Bob"),
    ]
    assert rows[2]["path"] == str(tmp_path / "photos" / "000.jpg")


def test_a_cell_of_the_wrong_type_skips_one_image(photos, embed, tmp_path, monkeypatch):
    monkeypatch.setattr("zebra.data.tables.INFER_SCHEMA_ROWS", 2)
    photos()
    lines = ["path,year", "photos/000.jpg,1999", "photos/001.jpg,2000", "photos/002.jpg,long ago"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    result = embed(tmp_path / "t.csv", columns=("year",))
    assert (result.num_rows, result.skipped) == (2, {"column of another type": 1})


def test_unknown_columns_are_rejected(photos, embed, tmp_path):
    (tmp_path / "t.csv").write_text("path,year\nphotos/000.jpg,1999\n")
    with pytest.raises(ConfigError, match=r"no column 'yaer'.*Did you mean 'year'"):
        embed(tmp_path / "t.csv", columns=("yaer",))
    with pytest.raises(ConfigError, match="has no column 'year'"):
        embed(photos(), columns=("year",))


def test_images_inside_parquet_are_embedded_with_one_row_each(embed, tmp_path, counts):
    table = pa.table({"image": [encoded(n % 3) for n in range(5)], "text": [f"t{n}" for n in range(5)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    embed(tmp_path / "t.parquet")
    assert counts["encoded"] == 3
    assert [row["caption"] for row in read_rows(tmp_path, "caption")] == ["t0", "t1", "t2", "t3", "t4"]
    assert embed(tmp_path / "t.parquet").unchanged == 5


def test_rows_of_shards_have_offset_label_and_caption(embed, tmp_path):
    with ShardWriter(tmp_path / "shards", samples_per_shard=3) as writer:
        for number in range(6):
            caption = {"txt": b"caption"} if number == 1 else {}
            label = {"cls": b"7"} if number == 2 else {}
            writer.write(f"{number:03d}", {"jpg": encoded(number), **caption, **label})
    embed(tmp_path / "shards")
    rows = read_rows(tmp_path)
    assert [row["caption"] for row in rows] == [None, "caption", None, None, None, None]
    assert [row["label"] for row in rows] == [None, None, 7, None, None, None]
    for number, row in enumerate(rows):
        with Path(row["path"]).open("rb") as file:
            file.seek(row["offset"])
            assert file.read(row["size"]) == encoded(number)
    assert embed(tmp_path / "shards").unchanged == 6
    assert embed(f"{tmp_path}/shards/{{00000..00001}}.tar").unchanged == 6, "the same images under another name"


def test_a_stopped_run_commits_and_continues_in_the_next_run(photos, embed, tmp_path):
    folder = photos(range(40))

    sent = []

    def stop(progress):
        if progress.embedded >= 8 and not sent:  # a second signal would end this process
            sent.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)  # until another thread has received it

    first = embed(folder, callback=stop)
    assert not first.finished
    assert 8 <= first.num_rows == first.embedded < 40
    second = embed(folder)
    assert (second.unchanged, second.embedded) == (first.num_rows, 40 - first.num_rows)
    names = [Path(row["path"]).name for row in read_rows(tmp_path, "path")]
    assert names == [f"{n:03d}.jpg" for n in range(40)]


def test_images_before_a_lost_device_are_committed(photos, embed, monkeypatch, tmp_path):
    folder, encode_pixels = photos(range(12)), Bundle.encode_pixels
    calls = []

    def fail_at_third_call(bundle, pixels):
        calls.append(len(pixels))
        if len(calls) == 3:
            raise DeviceLost("cuda:0 stopped working: CUDA error: unspecified launch failure")
        return encode_pixels(bundle, pixels)

    monkeypatch.setattr(Bundle, "encode_pixels", fail_at_third_call)
    with pytest.raises(DeviceLost, match="cuda:0"):
        embed(folder, workers=1)
    assert len(Store.open(tmp_path / "store")) == 8
    result = embed(folder, workers=1)
    assert (result.unchanged, result.embedded) == (8, 4)


def test_a_lost_device_ends_the_command_with_a_code_that_says_run_again(photos, model, monkeypatch, tmp_path, cli):
    def fail(_bundle, _pixels):
        raise DeviceLost("cuda:0 stopped working: CUDA error")

    monkeypatch.setattr(Bundle, "encode_pixels", fail)
    output = cli("embed", model, photos(), "--out", tmp_path / "store", code=75)
    assert "cuda:0 stopped working: CUDA error. The images before are in" in output.err
