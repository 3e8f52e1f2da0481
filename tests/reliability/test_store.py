"""Durability of a store when disks and processes fail: each test breaks one thing and counts the rows."""

import errno
import os
import resource
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from zebra import atomic_io
from zebra.store import Store, StoreError, StoreMetadata, store_dir

FSYNC_PATH = atomic_io.fsync_path
CRASH = Path(__file__).parents[2] / "benchmarks" / "store_crash.py"


def rows(first, last, width=16):
    numbers = range(first, last)
    flat = np.concatenate([np.random.default_rng(n).standard_normal(width) for n in numbers]).astype(np.float32)
    return pa.table(
        {
            "id": [f"id-{n}" for n in numbers],
            "digest": [f"digest-{n}" for n in numbers],
            "path": [f"{n}.jpg" for n in numbers],
            "width": pa.array([n % 7 for n in numbers], pa.int32()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat), width),
        }
    )


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store", StoreMetadata("f", "m", 16, "fp32", "float32"))


def read_rows(path):
    """Return all columns of all rows, after any recovery."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = Store.open(path)
    return pa.Table.from_batches(store.scan(store.schema.names)).to_pylist()


def list_files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def committed(store):
    """Return a store of three commits, the files of the latest, and the rows before and after it."""
    store.append(rows(0, 10))
    store.append(rows(10, 20))
    before = read_rows(store.path), list_files(store.path)
    store.append(rows(20, 30))
    store.close()
    new = {path for path in list_files(store.path) - before[1] if path.parent.name != "_transactions"}
    assert {path.parent.name for path in new} == {"data", "_versions"}
    return store.path, new, before[0], read_rows(store.path)


DAMAGE = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
}


@pytest.mark.parametrize("folder", ["data", "_versions"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_corrupt_latest_version_is_skipped_with_a_warning(committed, damage, folder):
    path, new, before, _ = committed
    for file in new:
        if file.parent.name == folder:
            damage(file)
    with pytest.warns(UserWarning, match=r"version 4 \(30 rows\) cannot be read.*Using version 3 \(20 rows\)"):
        Store.open(path)
    assert read_rows(path) == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the warning is not repeated
        store = Store.open(path)
    store.append(rows(20, 33))
    assert [row["id"] for row in read_rows(path)] == [f"id-{n}" for n in range(33)]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["*.txn", "latest_version_hint.json"])
def test_optional_lancedb_files_may_be_damaged(committed, damage, name):
    path, _, _, after = committed
    for file in path.rglob(name):
        damage(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = Store.open(path)
    store.append(rows(30, 31))
    assert len(read_rows(path)) == 31
    assert read_rows(path)[:30] == after


def test_a_quarantined_manifest_is_kept(committed):
    path, new, _, _ = committed
    manifest = next(file for file in new if file.parent.name == "_versions")
    data = next(file for file in new if file.parent.name == "data")
    manifest_bytes = manifest.read_bytes()
    data.unlink()
    with pytest.warns(UserWarning, match="store/damaged"):
        Store.open(path)
    assert (path / "damaged" / "version-4.manifest").read_bytes() == manifest_bytes


def test_a_deletion_without_its_file_is_skipped(store):
    store.append(rows(0, 10))
    before = read_rows(store.path)
    store.delete(["id-3"])
    store.close()
    shutil.rmtree(store.path / "images.lance" / "_deletions")
    with pytest.warns(UserWarning, match="cannot be read"):
        Store.open(store.path)
    assert read_rows(store.path) == before


def test_damage_beyond_the_rollback_limit_is_an_error_and_nothing_is_moved(store):
    for n in range(12):
        store.append(rows(n, n + 1))
    store.close()
    oldest = min((store.path / "images.lance" / "data").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    oldest.unlink()
    before = list_files(store.path)
    with pytest.raises(StoreError, match=f"damaged beyond repair .*: Not found: .*{oldest.name}"):
        Store.open(store.path)
    assert list_files(store.path) == before


def test_a_store_without_a_readable_version_is_beyond_repair(store):
    store.append(rows(0, 5))
    store.close()
    for manifest in (store.path / "images.lance" / "_versions").glob("*.manifest"):
        manifest.write_bytes(b"")
    before = list_files(store.path)
    with pytest.raises(StoreError, match="damaged beyond repair"):
        Store.open(store.path)
    assert list_files(store.path) == before


class PowerCut(BaseException):
    """Ends an operation; derived from BaseException, so that no handler catches it."""


class Disk:
    """Records fsync calls, and raises an error in one of them."""

    def __init__(self, monkeypatch, failure=None, at=0):
        self.failure, self.at = failure, at
        self.synced = []
        for module in (atomic_io, store_dir):
            monkeypatch.setattr(module, "fsync_path", self.fsync)

    def fsync(self, path):
        if len(self.synced) + 1 == self.at:
            raise self.failure
        self.synced.append(path)
        FSYNC_PATH(path)


CHANGES = {
    "append": lambda store: store.append(rows(20, 30)),
    "replace": lambda store: store.replace([3, 15], rows(20, 30)),
    "update": lambda store: store.update(["id-3"], {"width": 99}),
    "restore": lambda store: store.restore(2),
    "compact": lambda store: store.compact(),
}


@pytest.fixture
def store_with_rows(store, monkeypatch):
    monkeypatch.setattr("zebra.store.store.MIN_SMALL_FILES", 2)
    store.append(rows(0, 10))
    store.append(rows(10, 20))
    return store


def count_fsyncs(store, change, tmp_path, monkeypatch):
    """Count the fsync calls of a change, on a copy."""
    shutil.copytree(store.path, tmp_path / "copy")
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        change(Store.open(tmp_path / "copy"))
    return len(disk.synced)


@pytest.mark.parametrize("damage", [DAMAGE["zeros"], DAMAGE["removed"]], ids=["zeros", "removed"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_power_cut_at_any_fsync_leaves_the_rows_before_or_after_the_change(
    store_with_rows, tmp_path, monkeypatch, change, damage
):
    store = store_with_rows
    before, old = read_rows(store.path), list_files(store.path)
    store.close()
    outcomes = []
    for at in range(1, count_fsyncs(store, change, tmp_path, monkeypatch) + 1):
        cut = tmp_path / f"cut-{at}"
        shutil.copytree(store.path, cut)
        with monkeypatch.context() as patch:
            disk = Disk(patch, PowerCut(), at)
            writer = Store.open(cut)
            with pytest.raises(PowerCut):
                change(writer)
        new = list_files(cut) - {cut / path.relative_to(store.path) for path in old}
        for path in new - set(disk.synced):
            damage(path)  # a power cut loses what was not synced
        outcomes.append(read_rows(cut))
    change(store)
    after = read_rows(store.path)
    assert all(outcome in (before, after) for outcome in outcomes)
    assert outcomes[0] == before and outcomes[-1] == after
    with_change = [outcome == after for outcome in outcomes]
    assert before == after or with_change == sorted(with_change)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_finished_change_has_synced_its_new_files_and_directories(store_with_rows, monkeypatch, change):
    store = store_with_rows
    old = list_files(store.path)
    disk = Disk(monkeypatch)
    change(store)
    new = list_files(store.path) - old
    assert new and new <= {*disk.synced, store.path / "commit.json"}
    assert {path.parent for path in new} <= set(disk.synced)
    *_, record, directory = disk.synced
    assert record.match(".commit.json.*.partial") and record.parent == directory == store.path


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_disk_error_at_any_fsync_loses_no_committed_row(store_with_rows, tmp_path, monkeypatch, change):
    store = store_with_rows
    before = read_rows(store.path)
    store.close()
    for at in range(1, count_fsyncs(store, change, tmp_path, monkeypatch) + 1):
        full = tmp_path / f"full-{at}"
        shutil.copytree(store.path, full)
        writer = Store.open(full)
        with monkeypatch.context() as patch:
            Disk(patch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), at)
            with pytest.raises(StoreError, match=r"No space left on device .* intact. Free disk space and run again"):
                change(writer)
        assert pa.Table.from_batches(writer.scan(writer.schema.names)).to_pylist() == before
        assert read_rows(full) == before
        writer.append(rows(50, 51))  # the disk works again
        assert read_rows(full) == [*before, read_rows(full)[-1]]


@pytest.fixture
def small_disk():
    """Limit the size of written files, which LanceDB handles like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_during_a_lancedb_write_loses_no_committed_row(store, small_disk):
    store.append(rows(0, 10))
    before = read_rows(store.path)
    with pytest.raises(StoreError, match=r"appending 5,000 rows failed: File too large .*bytes to write.*intact"):
        store.append(rows(10, 5010))
    assert read_rows(store.path) == before
    store.append(rows(10, 20))
    assert [row["id"] for row in read_rows(store.path)] == [f"id-{n}" for n in range(20)]


def test_an_interrupted_change_is_rolled_back_by_the_next_one(store_with_rows, monkeypatch):
    before = read_rows(store_with_rows.path)
    with monkeypatch.context() as patch:
        Disk(patch, KeyboardInterrupt(), 3)
        with pytest.raises(KeyboardInterrupt):
            store_with_rows.append(rows(20, 30))
    with pytest.warns(
        UserWarning, match=r"rolled back an incomplete commit \(appending 10 rows\); the 20 rows committed before"
    ):
        store_with_rows.append(rows(20, 25))
    assert read_rows(store_with_rows.path)[:20] == before
    assert len(read_rows(store_with_rows.path)) == 25


def test_a_reader_does_not_roll_back_a_commit_in_progress(store_with_rows, monkeypatch):
    num_rows_read = []

    def fsync(path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            num_rows_read.append(len(Store.open(store_with_rows.path)))
        FSYNC_PATH(path)

    for module in (atomic_io, store_dir):
        monkeypatch.setattr(module, "fsync_path", fsync)
    store_with_rows.append(rows(20, 30))
    assert set(num_rows_read) == {20, 30}
    assert len(store_with_rows) == 30


def test_a_store_with_an_interrupted_creation_can_be_created_again(tmp_path, monkeypatch):
    metadata = StoreMetadata("f", "m", 16, "fp32", "float32")
    for at in (1, 2, 3, 5):
        with monkeypatch.context() as patch:
            Disk(patch, PowerCut(), at)
            with pytest.raises(PowerCut):
                Store.create(tmp_path / "s", metadata)
        with pytest.raises(StoreError, match="no store"):
            Store.open(tmp_path / "s")
    Store.create(tmp_path / "s", metadata).append(rows(0, 3))
    assert len(read_rows(tmp_path / "s")) == 3


def test_a_store_killed_at_random_moments_holds_exactly_the_committed_rows():
    result = subprocess.run([sys.executable, str(CRASH), "--trials", "4"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 of 4 right" in result.stdout
