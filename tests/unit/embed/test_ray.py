"""The driver of a Ray cluster without the cluster: batches go to one worker in this process, pickled both ways."""

import os
import pickle
import sys
from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pytest

from zebra.data.shard_writer import ShardWriter
from zebra.embed import ray
from zebra.errors import DataError, MissingExtra, WeightsError
from zebra.store import Store
from zebra.workflows import embed as workflow

from .conftest import encoded


@pytest.fixture
def cluster(monkeypatch):
    """One worker; what it is asked is counted, and it can be told to fail."""
    asked = {"batches": 0, "fail_at": None}

    def spread(parcels, actor, workers):
        embedder = ray.EmbedActor(*pickle.loads(pickle.dumps(actor)))
        for parcel in parcels:
            asked["batches"] += 1
            if asked["batches"] == asked["fail_at"]:
                raise KeyError("the worker is gone")
            yield pickle.loads(
                pickle.dumps(embedder({"request": pickle.loads(pickle.dumps(parcel))})["response"])
            )

    monkeypatch.setattr(workflow, "require_ray", lambda: None)
    monkeypatch.setattr(ray, "_connect_to_ray", lambda workers: nullcontext(workers or 1))
    monkeypatch.setattr(ray, "_map_on_cluster", spread)
    return asked


def rows(tmp_path, out):
    store = Store.open(tmp_path / out)
    found = [row for batch in store.scan(store.schema.names) for row in batch.to_pylist()]
    return store.schema, sorted(found, key=lambda row: row["id"])


def assert_same(tmp_path, first, second):
    (schema, one), (other_schema, two) = rows(tmp_path, first), rows(tmp_path, second)
    assert other_schema.equals(schema, check_metadata=True)
    vectors = [np.array([row.pop("vector") for row in side], np.float32) for side in (one, two)]
    assert one == two
    np.testing.assert_allclose(*vectors, rtol=0, atol=1e-6)


def test_the_store_of_a_cluster_is_that_of_one_process(cluster, photos, embed, tmp_path):
    folder = photos(range(10))
    embed(folder, vector_dtype="float32")
    result = embed(folder, out="other", vector_dtype="float32", engine="ray")
    assert (result.embedded, result.num_rows, result.finished) == (10, 10, True)
    assert cluster["batches"] == 3
    assert_same(tmp_path, "store", "other")


def test_shards_named_from_the_drivers_folder_are_found(cluster, embed, tmp_path, monkeypatch):
    with ShardWriter(tmp_path / "shards", samples_per_shard=3) as writer:
        for number in range(7):
            writer.write(f"{number}", {"jpg": encoded(number), "txt": f"picture {number}".encode()})
    monkeypatch.chdir(tmp_path)
    embed("shards", vector_dtype="float32")
    embed("shards", out="other", vector_dtype="float32", engine="ray")
    assert_same(tmp_path, "store", "other")


def test_a_second_run_starts_no_cluster(cluster, photos, embed):
    folder = photos()
    embed(folder, engine="ray")
    cluster["batches"] = 0
    result = embed(folder, engine="ray")
    assert (result.unchanged, result.embedded, cluster["batches"]) == (6, 0, 0)


def test_a_whole_run_is_one_commit(cluster, photos, embed, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "COMMIT_ROWS", 4)
    folder = photos(range(10))
    embed(folder, engine="ray")
    assert [version.num_rows for version in Store.open(tmp_path / "store").list_versions()] == [0, 10]


def test_changed_touched_and_vanished_pictures_end_as_in_one_process(cluster, photos, embed, tmp_path):
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
    assert_same(tmp_path, "store", "other")


def test_equal_bytes_in_a_batch_are_embedded_once(cluster, photos, embed):
    folder = photos([0, 1])
    (folder / "twin.jpg").write_bytes(encoded(0))
    result = embed(folder, engine="ray")
    assert (result.embedded, result.reused, result.num_rows) == (2, 1, 3)


def test_a_bad_picture_is_counted_and_named(cluster, photos, embed, skips):
    folder = photos()
    (folder / "bad.jpg").write_bytes(b"no picture")
    result = embed(folder, engine="ray")
    assert (result.embedded, dict(result.skipped)) == (6, {"not an image": 1})
    assert [line["id"] for line in skips()] == [str(folder / "bad.jpg")]


def test_too_many_bad_pictures_end_the_run_with_the_good_ones_committed(cluster, photos, embed, tmp_path):
    folder = photos(range(4))
    for number in range(10):
        (folder / f"bad{number}.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="more than the 50% allowed"):
        embed(folder, engine="ray")
    assert len(Store.open(tmp_path / "store")) == 4


def test_what_came_home_is_kept_when_the_cluster_fails(cluster, photos, embed, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "COMMIT_ROWS", 4)
    cluster["fail_at"] = 3
    with pytest.raises(KeyError):
        embed(photos(range(10)), engine="ray")
    assert len(Store.open(tmp_path / "store")) == 8
    assert not (tmp_path / "store" / ray.STAGED_ROWS_FILE).exists()


def test_nothing_is_in_the_store_before_the_end(cluster, photos, embed, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "COMMIT_ROWS", 4)
    seen = []
    embed(
        photos(range(10)), engine="ray", callback=lambda _: seen.append(len(Store.open(tmp_path / "store")))
    )
    assert seen == [0, 0, 0, 10]


def test_what_a_killed_driver_left_is_overwritten(cluster, photos, embed, tmp_path):
    folder = photos()
    embed(folder, engine="ray")
    (tmp_path / "store" / ray.STAGED_ROWS_FILE).write_bytes(b"half a file")
    photos([6])
    assert embed(folder, engine="ray").num_rows == 7
    assert not (tmp_path / "store" / ray.STAGED_ROWS_FILE).exists()


def test_another_model_under_the_same_name_is_refused(model):
    remote = ray.LazyImageEncoder(str(model), "fp32", "0" * 64)
    with pytest.raises(WeightsError, match="bring the same files to both"):
        _ = remote.encode_pixels


def test_a_worker_without_the_model_says_so(cluster, photos, embed, tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "_resolve_model_path", lambda model: str(tmp_path / "elsewhere"))
    with pytest.raises(WeightsError, match=r"a worker of the Ray cluster cannot run the model: .*elsewhere"):
        embed(photos(), engine="ray")


def test_ray_is_asked_for_by_name_where_it_is_missing(photos, embed, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "zebra-clip\[ray\]"'):
        embed(photos(), engine="ray")
    assert not (tmp_path / "store").exists()


def test_a_full_disk_leaves_the_store_as_it_was(cluster, photos, embed, tmp_path, monkeypatch):
    def full(path, schema):
        raise OSError(28, "No space left on device")

    folder = photos()
    embed(folder, engine="ray")
    photos([6])
    monkeypatch.setattr(pa.ipc, "new_file", full)
    with pytest.raises(Exception, match="The store is as it was"):
        embed(folder, engine="ray")
    assert len(Store.open(tmp_path / "store")) == 6
