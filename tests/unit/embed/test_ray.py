"""The driver of a Ray cluster without Ray: one worker in this process, with pickled requests and responses."""

import os
import sys

import numpy as np
import pyarrow as pa
import pytest

from zebra.data.shard_writer import ShardWriter
from zebra.embed import ray
from zebra.errors import DataError, MissingExtra, WeightsError
from zebra.store import Store
from zebra.workflows import embed as workflow

from .conftest import encoded


def read_rows(tmp_path, out):
    store = Store.open(tmp_path / out)
    rows = [row for batch in store.scan(store.schema.names) for row in batch.to_pylist()]
    return store.schema, sorted(rows, key=lambda row: row["id"])


def assert_same_stores(tmp_path, first, second):
    (schema, first_rows), (other_schema, second_rows) = (read_rows(tmp_path, first), read_rows(tmp_path, second))
    assert other_schema.equals(schema, check_metadata=True)
    vectors = [np.array([row.pop("vector") for row in rows], np.float32) for rows in (first_rows, second_rows)]
    assert first_rows == second_rows
    np.testing.assert_allclose(*vectors, rtol=0, atol=1e-6)


def test_a_cluster_writes_the_same_store_as_one_process(cluster, photos, embed, tmp_path):
    folder = photos(range(10))
    embed(folder, vector_dtype="float32")
    result = embed(folder, out="other", vector_dtype="float32", engine="ray")
    assert (result.embedded, result.num_rows, result.finished) == (10, 10, True)
    assert cluster["batches"] == 3
    assert_same_stores(tmp_path, "store", "other")


def test_relative_paths_of_shards_start_in_the_working_directory_of_the_driver(cluster, embed, tmp_path, monkeypatch):
    with ShardWriter(tmp_path / "shards", samples_per_shard=3) as writer:
        for number in range(7):
            writer.write(f"{number}", {"jpg": encoded(number), "txt": f"image {number}".encode()})
    monkeypatch.chdir(tmp_path)
    embed("shards", vector_dtype="float32")
    embed("shards", out="other", vector_dtype="float32", engine="ray")
    assert_same_stores(tmp_path, "store", "other")


def test_a_second_run_starts_no_cluster(cluster, photos, embed):
    folder = photos()
    embed(folder, engine="ray")
    cluster["batches"] = 0
    result = embed(folder, engine="ray")
    assert (result.unchanged, result.embedded, cluster["batches"]) == (6, 0, 0)


def test_a_run_is_one_commit(cluster, photos, embed, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "COMMIT_ROWS", 4)
    folder = photos(range(10))
    embed(folder, engine="ray")
    assert [version.num_rows for version in Store.open(tmp_path / "store").list_versions()] == [0, 10]


def test_changed_touched_and_deleted_images_end_as_in_one_process(cluster, photos, embed, tmp_path):
    folder = photos(range(10))
    for out, engine in (("store", "threads"), ("other", "ray")):
        embed(folder, out=out, engine=engine, vector_dtype="float32")
    (folder / "002.jpg").write_bytes(encoded(102))
    os.utime(folder / "005.jpg", (1, 1))
    (folder / "000.jpg").unlink()
    (folder / "008.jpg").unlink()
    photos([20])
    for out, engine in (("store", "threads"), ("other", "ray")):
        result = embed(folder, out=out, engine=engine, prune=True)
        assert (result.unchanged, result.pruned, result.num_rows) == (6, 2, 9)
    assert_same_stores(tmp_path, "store", "other")


def test_equal_bytes_in_a_batch_are_embedded_once(cluster, photos, embed):
    folder = photos([0, 1])
    (folder / "twin.jpg").write_bytes(encoded(0))
    result = embed(folder, engine="ray")
    assert (result.embedded, result.reused, result.num_rows) == (2, 1, 3)


def test_an_unusable_image_is_counted_and_listed(cluster, photos, embed, skips):
    folder = photos()
    (folder / "bad.jpg").write_bytes(b"no image")
    result = embed(folder, engine="ray")
    assert (result.embedded, dict(result.skipped)) == (6, {"not an image": 1})
    assert [line["id"] for line in skips()] == [str(folder / "bad.jpg")]


def test_too_many_unusable_images_end_the_run_and_the_usable_ones_are_committed(cluster, photos, embed, tmp_path):
    folder = photos(range(4))
    for number in range(10):
        (folder / f"bad{number}.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="more than the 50% allowed"):
        embed(folder, engine="ray")
    assert len(Store.open(tmp_path / "store")) == 4


def test_received_rows_are_committed_when_the_cluster_fails(cluster, photos, embed, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "COMMIT_ROWS", 4)
    cluster["fail_at"] = 3
    with pytest.raises(KeyError):
        embed(photos(range(10)), engine="ray")
    assert len(Store.open(tmp_path / "store")) == 8
    assert not (tmp_path / "store" / ray.STAGED_ROWS_FILE).exists()


def test_nothing_is_in_the_store_before_the_end(cluster, photos, embed, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "COMMIT_ROWS", 4)
    num_rows = []
    embed(photos(range(10)), engine="ray", callback=lambda _: num_rows.append(len(Store.open(tmp_path / "store"))))
    assert num_rows == [0, 0, 0, 10]


def test_the_staged_rows_of_a_killed_driver_are_overwritten(cluster, photos, embed, tmp_path):
    folder = photos()
    embed(folder, engine="ray")
    (tmp_path / "store" / ray.STAGED_ROWS_FILE).write_bytes(b"partial file")
    photos([6])
    assert embed(folder, engine="ray").num_rows == 7
    assert not (tmp_path / "store" / ray.STAGED_ROWS_FILE).exists()


def test_another_model_with_the_same_name_is_rejected(model):
    remote = ray.LazyImageEncoder(str(model), "fp32", "0" * 64)
    with pytest.raises(WeightsError, match="Copy the same files to both"):
        _ = remote.encode_pixels


def test_a_worker_without_the_model_is_an_error(cluster, photos, embed, tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "_resolve_model_path", lambda model: str(tmp_path / "elsewhere"))
    with pytest.raises(WeightsError, match=r"a worker of the Ray cluster cannot run the model: .*elsewhere"):
        embed(photos(), engine="ray")


def test_the_error_without_ray_has_the_pip_command(photos, embed, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "zebra-clip\[ray\]"'):
        embed(photos(), engine="ray")
    assert not (tmp_path / "store").exists()


def test_a_full_disk_leaves_the_store_unchanged(cluster, photos, embed, tmp_path, monkeypatch):
    def raise_full(path, schema):
        raise OSError(28, "No space left on device")

    folder = photos()
    embed(folder, engine="ray")
    photos([6])
    monkeypatch.setattr(pa.ipc, "new_file", raise_full)
    with pytest.raises(Exception, match="The store is unchanged"):
        embed(folder, engine="ray")
    assert len(Store.open(tmp_path / "store")) == 6
