"""Building an index is a commit, and commit.json says whether rows were only appended."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from zebra.store import Store, StoreError, store_dir
from zebra.store.index_metadata import IndexMetadata, read_index_metadata, write_index_metadata
from zebra.store.lance_table import LanceTable


def search(store, number, k=3, where=None):
    vector = np.random.default_rng(number).standard_normal(8).astype(np.float32)
    return store.search_index(vector, k, ["id"], where, 2, 4)["id"].to_pylist()


def test_the_index_finds_rows_and_those_appended_after_it(store, rows):
    store.append(rows(0, 300))
    assert store.num_indexed() is None
    store.build_index("IVF_SQ", 3)
    assert store.num_indexed() == 300
    store.append(rows(300, 320))
    assert store.num_indexed() == 300
    assert search(store, 310)[0] == "id-310"
    assert search(store, 20)[0] == "id-20"
    store.delete(["id-20"])
    assert "id-20" not in search(store, 20, 320)
    assert search(store, 7, 50, "`width` < 650") != []
    assert len(search(store, 7, 50, "`width` < 650")) == 10


def test_an_index_of_one_bit_per_component_finds_old_and_new_rows(store, rows):
    store.append(rows(0, 300))
    store.build_index("IVF_RQ", 3)
    store.append(rows(300, 320))
    assert [search(store, number, 1)[0] for number in (20, 310)] == ["id-20", "id-310"]
    store.delete(["id-20"])
    assert "id-20" not in search(store, 20, 300)
    assert len(search(store, 7, 50, "`width` < 650")) == 10


@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_a_damaged_index_is_an_error_that_says_how_to_rebuild_it(store, rows, damage):
    store.append(rows(0, 300))
    store.build_index("IVF_SQ", 3)
    for path in (store.path / "images.lance" / "_indices").rglob("*.idx"):
        path.write_bytes(path.read_bytes()[:20]) if damage == "truncate" else path.unlink()
    with pytest.raises(StoreError, match=r"searching the index failed: .*zebra search .* --index"):
        search(Store.open(store.path), 7)
    store.build_index("IVF_SQ", 3)
    assert search(Store.open(store.path), 7)[0] == "id-7"


def test_building_the_index_again_adds_the_new_rows(store, rows):
    store.append(rows(0, 300))
    store.build_index("IVF_SQ", 2)
    store.append(rows(300, 400))
    store.build_index("IVF_SQ", 4)
    assert store.num_indexed() == 400
    assert len(Store.open(store.path)) == 400


def test_compacting_keeps_the_index(store, rows):
    store.append(rows(0, 300))
    store.build_index("IVF_SQ", 2)
    for first in range(300, 340):
        store.append(rows(first, first + 1))
    store.compact()
    assert store.num_indexed() in (300, 340)
    assert search(store, 333)[0] == "id-333"


def test_an_interrupted_index_build_leaves_the_store_unchanged(store, rows, monkeypatch):
    """The process ends after LanceDB wrote the index and before the commit was recorded."""
    store.append(rows(0, 300))
    version = store.version
    monkeypatch.setattr(store_dir.StoreDir, "finish_commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.build_index("IVF_SQ", 2)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"rolled back an incomplete commit \(building the index\)"):
        reopened = Store.open(store.path)
    assert (reopened.version, len(reopened), reopened.num_indexed()) == (version, 300, None)
    reopened.build_index("IVF_SQ", 2)
    assert reopened.num_indexed() == 300


def test_a_failed_index_build_is_an_error_and_the_store_stays_usable(store, rows, monkeypatch):
    store.append(rows(0, 300))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LanceTable, "build_index", full)
    with pytest.raises(StoreError, match="building the index failed: No space left on device"):
        store.build_index("IVF_SQ", 2)
    assert store.append(rows(300, 301)) > 0


def test_only_one_process_builds_an_index(store, rows):
    store.append(rows(0, 300))
    with pytest.raises(StoreError, match="is locked by the writer process"):
        Store.open(store.path).build_index("IVF_SQ", 2)


def test_index_metadata_is_read_back_and_damaged_metadata_is_none(tmp_path):
    metadata = IndexMetadata("IVF_SQ", 300, 3, 2, 40, 0.95, 0.97, 0.95, 100, 1.5)
    write_index_metadata(tmp_path, metadata)
    assert read_index_metadata(tmp_path) == metadata
    (tmp_path / "index.json").write_text("{}")
    assert read_index_metadata(tmp_path) is None
    (tmp_path / "index.json").unlink()
    assert read_index_metadata(tmp_path) is None


def test_the_commit_record_has_the_version_of_the_last_rewrite(store, rows):
    def last_rewrite():
        return Store.open(store.path).last_commit.last_rewrite_version

    first_version = store.version
    store.append(rows(0, 300))
    store.build_index("IVF_SQ", 2)
    store.append(rows(300, 310))
    assert last_rewrite() == first_version
    store.update(["id-3"], {"caption": "new"})
    assert last_rewrite() == store.version
    rewrite_version = store.version
    store.append(rows(310, 311))
    assert last_rewrite() == rewrite_version
    store.delete(["id-3"])
    assert last_rewrite() == store.version
    store.restore(rewrite_version)
    assert last_rewrite() == store.version


def test_an_incomplete_commit_is_no_rewrite_and_a_lost_version_is_one(store, rows, tmp_path):
    store.append(rows(0, 5))
    store.append(rows(5, 9))
    before = json.loads((store.path / "commit.json").read_text())
    store.close()
    (store.path / "commit.json").write_text(json.dumps(before | {"pending_operation": "deleting 1 rows"}))
    Store.open(store.path).append(rows(9, 10))
    assert (
        json.loads((store.path / "commit.json").read_text())["last_rewrite_version"] == before["last_rewrite_version"]
    )
    lost = tmp_path / "lost"
    shutil.copytree(store.path, lost)
    latest = max(Path(lost, "images.lance", "_versions").glob("*.manifest"), key=lambda path: path.stat().st_mtime_ns)
    latest.write_bytes(b"")
    with pytest.warns(UserWarning, match="cannot be read"):
        reopened = Store.open(lost)
    assert reopened.last_commit.last_rewrite_version > store.last_commit.version


def test_a_record_without_a_rewrite_version_makes_readers_read_all(store, rows):
    store.append(rows(0, 5))
    record = json.loads((store.path / "commit.json").read_text())
    del record["last_rewrite_version"]
    (store.path / "commit.json").write_text(json.dumps(record))
    assert Store.open(store.path).last_commit.last_rewrite_version > 10**9


def test_rows_can_be_read_from_an_offset(store, rows):
    store.append(rows(0, 5))
    store.append(rows(5, 9))
    ids, vectors = store.read_vectors(offset=6)
    assert ids.to_pylist() == ["id-6", "id-7", "id-8"]
    assert np.array_equal(vectors, store.read_vectors()[1][6:])
    assert [name for batch in store.scan(["id"], 8) for name in batch["id"].to_pylist()] == ["id-8"]
    assert store.read_vectors(offset=9)[1].shape == (0, 8)
