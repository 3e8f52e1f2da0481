"""What a store promises about disks and processes that fail: each test breaks one thing and counts the rows."""

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
    flat = np.concatenate([np.random.default_rng(n).standard_normal(width) for n in numbers]).astype(
        np.float32
    )
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


def content(path):
    """Read every column of every row, after whatever has to be mended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = Store.open(path)
    return pa.Table.from_batches(store.scan(store.schema.names)).to_pylist()


def files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def committed(store):
    """A store of three commits, the files of the newest one, and what it held before and after that."""
    store.append(rows(0, 10))
    store.append(rows(10, 20))
    before = content(store.path), files(store.path)
    store.append(rows(20, 30))
    store.close()
    new = {path for path in files(store.path) - before[1] if path.parent.name != "_transactions"}
    assert {path.parent.name for path in new} == {"data", "_versions"}
    return store.path, new, before[0], content(store.path)


RUIN = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
}


@pytest.mark.parametrize("folder", ["data", "_versions"])
@pytest.mark.parametrize("ruin", RUIN.values(), ids=RUIN)
def test_a_newest_version_that_cannot_be_read_is_stepped_over_with_a_warning(committed, ruin, folder):
    path, new, before, _ = committed
    for file in new:
        if file.parent.name == folder:
            ruin(file)
    with pytest.warns(
        UserWarning, match=r"version 4 \(30 rows\) cannot be read.*Version 3 \(20 rows\) is in its"
    ):
        Store.open(path)
    assert content(path) == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        store = Store.open(path)
    store.append(rows(20, 33))
    assert [row["id"] for row in content(path)] == [f"id-{n}" for n in range(33)]


@pytest.mark.parametrize("ruin", RUIN.values(), ids=RUIN)
@pytest.mark.parametrize("name", ["*.txn", "latest_version_hint.json"])
def test_files_that_lancedb_can_do_without_cost_nothing(committed, ruin, name):
    path, _, _, after = committed
    for file in path.rglob(name):
        ruin(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = Store.open(path)
    store.append(rows(30, 31))
    assert len(content(path)) == 31
    assert content(path)[:30] == after


def test_a_manifest_that_was_set_aside_is_kept(committed):
    path, new, _, _ = committed
    manifest = next(file for file in new if file.parent.name == "_versions")
    data = next(file for file in new if file.parent.name == "data")
    whole = manifest.read_bytes()
    data.unlink()
    with pytest.warns(UserWarning, match="store/damaged"):
        Store.open(path)
    assert (path / "damaged" / "version-4.manifest").read_bytes() == whole


def test_a_deletion_whose_file_is_gone_is_stepped_over(store):
    store.append(rows(0, 10))
    before = content(store.path)
    store.delete(["id-3"])
    store.close()
    shutil.rmtree(store.path / "images.lance" / "_deletions")
    with pytest.warns(UserWarning, match="cannot be read"):
        Store.open(store.path)
    assert content(store.path) == before


def test_more_damage_than_a_crash_can_do_is_not_stepped_over_and_nothing_is_moved(store):
    for n in range(12):
        store.append(rows(n, n + 1))
    store.close()
    oldest = min((store.path / "images.lance" / "data").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    oldest.unlink()
    before = files(store.path)
    with pytest.raises(StoreError, match=f"damaged beyond repair .*: Not found: .*{oldest.name}"):
        Store.open(store.path)
    assert files(store.path) == before


def test_a_store_of_which_no_version_can_be_read_is_beyond_repair(store):
    store.append(rows(0, 5))
    store.close()
    for manifest in (store.path / "images.lance" / "_versions").glob("*.manifest"):
        manifest.write_bytes(b"")
    before = files(store.path)
    with pytest.raises(StoreError, match="damaged beyond repair"):
        Store.open(store.path)
    assert files(store.path) == before


class PowerCut(BaseException):
    """Ends whatever is going on; nothing may catch it."""


class Disk:
    """Counts flushes, fails in one of them, and knows what was flushed."""

    def __init__(self, monkeypatch, failure=None, at=0):
        self.failure, self.at = failure, at
        self.flushed = []
        for module in (atomic_io, store_dir):
            monkeypatch.setattr(module, "fsync_path", self.sync)

    def sync(self, path):
        if len(self.flushed) + 1 == self.at:
            raise self.failure
        self.flushed.append(path)
        FSYNC_PATH(path)


CHANGES = {
    "append": lambda store: store.append(rows(20, 30)),
    "delete": lambda store: store.delete(["id-3", "id-15"]),
    "update": lambda store: store.update(["id-3"], {"width": 99}),
    "restore": lambda store: store.restore(2),
    "compact": lambda store: store.compact(),
}


@pytest.fixture
def begun(store, monkeypatch):
    monkeypatch.setattr("zebra.store.store.MIN_SMALL_FILES", 2)
    store.append(rows(0, 10))
    store.append(rows(10, 20))
    return store


def flushes(store, change, tmp_path, monkeypatch):
    """Count how many flushes a change makes, on a copy."""
    shutil.copytree(store.path, tmp_path / "copy")
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        change(Store.open(tmp_path / "copy"))
    return len(disk.flushed)


@pytest.mark.parametrize("ruin", [RUIN["zeros"], RUIN["removed"]], ids=["zeros", "removed"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_power_cut_at_any_moment_of_a_change_leaves_the_rows_before_it_or_after_it(
    begun, tmp_path, monkeypatch, change, ruin
):
    store = begun
    before, old = content(store.path), files(store.path)
    store.close()
    outcomes = []
    for at in range(1, flushes(store, change, tmp_path, monkeypatch) + 1):
        cut = tmp_path / f"cut-{at}"
        shutil.copytree(store.path, cut)
        with monkeypatch.context() as patch:
            disk = Disk(patch, PowerCut(), at)
            victim = Store.open(cut)
            with pytest.raises(PowerCut):
                change(victim)
        new = files(cut) - {cut / path.relative_to(store.path) for path in old}
        for path in new - set(disk.flushed):
            ruin(path)  # what was never flushed is what a power cut takes
        outcomes.append(content(cut))
    change(store)
    after = content(store.path)
    assert all(outcome in (before, after) for outcome in outcomes)
    assert outcomes[0] == before and outcomes[-1] == after
    with_change = [outcome == after for outcome in outcomes]
    assert before == after or with_change == sorted(with_change)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_when_a_change_returns_every_file_it_made_is_flushed_with_its_folders(begun, monkeypatch, change):
    store = begun
    old = files(store.path)
    disk = Disk(monkeypatch)
    change(store)
    new = files(store.path) - old
    assert new and new <= {*disk.flushed, store.path / "commit.json"}
    assert {path.parent for path in new} <= set(disk.flushed)
    *_, record, folder = disk.flushed
    assert record.match(".commit.json.*.partial") and record.parent == folder == store.path


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_disk_that_fails_at_any_moment_of_a_change_costs_nothing_that_was_committed(
    begun, tmp_path, monkeypatch, change
):
    store = begun
    before = content(store.path)
    store.close()
    for at in range(1, flushes(store, change, tmp_path, monkeypatch) + 1):
        full = tmp_path / f"full-{at}"
        shutil.copytree(store.path, full)
        victim = Store.open(full)
        with monkeypatch.context() as patch:
            Disk(patch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), at)
            with pytest.raises(
                StoreError, match=r"No space left on device .* untouched: make room, and run again"
            ):
                change(victim)
        assert pa.Table.from_batches(victim.scan(victim.schema.names)).to_pylist() == before
        assert content(full) == before
        victim.append(rows(50, 51))  # there is room again
        assert content(full) == [*before, content(full)[-1]]


@pytest.fixture
def small_disk():
    """A limit to the size of any file written, which LanceDB meets as it meets a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_while_lancedb_writes_costs_nothing_that_was_committed(store, small_disk):
    store.append(rows(0, 10))
    before = content(store.path)
    with pytest.raises(
        StoreError, match=r"adding 5,000 rows failed: File too large .*bytes to write.*untouched"
    ):
        store.append(rows(10, 5010))
    assert content(store.path) == before
    store.append(rows(10, 20))
    assert [row["id"] for row in content(store.path)] == [f"id-{n}" for n in range(20)]


def test_an_interrupted_change_is_undone_by_the_next_one(begun, monkeypatch):
    before = content(begun.path)
    with monkeypatch.context() as patch:
        Disk(patch, KeyboardInterrupt(), 3)
        with pytest.raises(KeyboardInterrupt):
            begun.append(rows(20, 30))
    with pytest.warns(
        UserWarning, match="adding 10 rows was cut short, and is undone; the 20 rows committed before"
    ):
        begun.append(rows(20, 25))
    assert content(begun.path)[:20] == before
    assert len(content(begun.path)) == 25


def test_a_reader_leaves_the_commit_of_a_living_writer_alone(begun, monkeypatch):
    seen = []

    def look(path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            seen.append(len(Store.open(begun.path)))
        FSYNC_PATH(path)

    for module in (atomic_io, store_dir):
        monkeypatch.setattr(module, "fsync_path", look)
    begun.append(rows(20, 30))
    assert set(seen) == {20, 30}
    assert len(begun) == 30


def test_a_store_whose_making_was_cut_short_can_be_made_again(tmp_path, monkeypatch):
    facts = StoreMetadata("f", "m", 16, "fp32", "float32")
    for at in (1, 2, 3, 5):
        with monkeypatch.context() as patch:
            Disk(patch, PowerCut(), at)
            with pytest.raises(PowerCut):
                Store.create(tmp_path / "s", facts)
        with pytest.raises(StoreError, match="no store"):
            Store.open(tmp_path / "s")
    Store.create(tmp_path / "s", facts).append(rows(0, 3))
    assert len(content(tmp_path / "s")) == 3


def test_killed_at_random_moments_of_a_commit_a_store_holds_exactly_the_committed_rows():
    done = subprocess.run(
        [sys.executable, str(CRASH), "--trials", "4"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 right" in done.stdout
