"""Scorecard rows on checkpoints: failing disks, full disks, corruption, crashes between any two operations.

The checkpoints have a few hundred bytes, because these tests are about the order of file operations.
"""

import random
import resource
import shutil
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from zebra.errors import CheckpointError, WeightsError
from zebra.pretrained.manifest import verify_manifest
from zebra.train import checkpoint_writer
from zebra.train.checkpoint import (
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from zebra.train.checkpoint_writer import CheckpointWriter
from zebra.train.snapshot import TrainSnapshot

from .faults import Disk, Killed

FILES = ("model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json", "MANIFEST.json")


def snapshot(step, size=4):
    """Return a snapshot in which every value is the step."""
    tensors = {part: {"w": torch.full((size,), float(step))} for part in ("model", "optimizer", "rng")}
    return TrainSnapshot(step, tensors, {"position": step})


def save(checkpoints_dir, step):
    save_checkpoint(checkpoints_dir, snapshot(step))
    prune_checkpoints(checkpoints_dir, num_to_keep=1)


def assert_valid(path):
    """Check that a checkpoint holds exactly one step; return the step."""
    loaded = load_checkpoint(path)
    assert loaded.state == {"position": loaded.step}
    for named in loaded.tensors.values():
        assert torch.equal(named["w"], torch.full((4,), float(loaded.step)))
    return loaded.step


def write_run_files(checkpoints_dir, steps=(1,)):
    """Write what a run has on disk: checkpoints, and a partial one of an earlier crash."""
    for step in steps:
        save_checkpoint(checkpoints_dir, snapshot(step))
    (checkpoints_dir / ".partial-step-00000077").mkdir()
    (checkpoints_dir / ".partial-step-00000077" / "model.safetensors").write_bytes(b"half")


def each_change(tmp_path, kill=None):
    """Yield a directory with a checkpoint and a disk that fails at its n-th change, until a save succeeds."""
    write_run_files(tmp_path / "template")
    nth = 0
    while True:
        nth += 1
        checkpoints_dir = tmp_path / str(nth)
        shutil.copytree(tmp_path / "template", checkpoints_dir)
        disk = Disk(nth, kill)
        yield checkpoints_dir, disk
        if not disk.has_failed:
            break
    assert nth > 30  # all writes, flushes, renames and removals of a save


def test_r8_if_any_change_of_a_save_fails_a_valid_checkpoint_remains_and_the_error_is_reported(tmp_path):
    for checkpoints_dir, disk in each_change(tmp_path):
        errors = []
        with warnings.catch_warnings(record=True) as caught_warnings, disk.mounted():
            warnings.simplefilter("always")
            try:
                save(checkpoints_dir, 2)
            except CheckpointError as error:
                errors.append(error)
        assert bool(errors or caught_warnings) == disk.has_failed, disk.changes[-1:]
        checkpoints = list_checkpoints(checkpoints_dir)
        assert {assert_valid(path) for path in checkpoints} <= {1, 2}
        assert assert_valid(latest_checkpoint(checkpoints_dir)) == 2 or errors, disk.changes[-1]


def test_r8_after_any_failure_the_next_save_succeeds_and_leaves_no_partial_files(tmp_path):
    for checkpoints_dir, disk in each_change(tmp_path):
        with warnings.catch_warnings(action="ignore"), disk.mounted(), suppress(CheckpointError):
            save(checkpoints_dir, 2)
        save(checkpoints_dir, 3)
        assert [path.name for path in checkpoints_dir.iterdir()] == ["step-00000003"]


def test_r8_a_failed_write_leaves_no_files(tmp_path):
    write_run_files(tmp_path)
    with Disk(nth=12).mounted(), pytest.raises(CheckpointError, match="Input/output error"):
        save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system with space for one and a half checkpoints of 60 kB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root; the test of the file size limit runs instead")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_r9_a_full_disk_keeps_the_checkpoint_and_the_error_names_the_needed_space(small_disk):
    checkpoints_dir = small_disk / "checkpoints"
    save_checkpoint(checkpoints_dir, snapshot(1, size=5000))
    with pytest.raises(CheckpointError, match=r"No space left on device \(60,000 bytes needed, [\d,]+ free\)"):
        save_checkpoint(checkpoints_dir, snapshot(2, size=5000))
    assert [path.name for path in checkpoints_dir.iterdir()] == ["step-00000001"]
    assert latest_checkpoint(checkpoints_dir) == checkpoints_dir / "step-00000001"


def test_r9_after_freeing_space_the_next_save_succeeds(small_disk):
    checkpoints_dir = small_disk / "checkpoints"
    save_checkpoint(checkpoints_dir, snapshot(1, size=5000))
    (small_disk / "other").write_bytes(bytes(20_000))
    with pytest.raises(CheckpointError):
        save_checkpoint(checkpoints_dir, snapshot(2, size=1000))
    (small_disk / "other").unlink()
    save_checkpoint(checkpoints_dir, snapshot(2, size=1000))
    assert load_checkpoint(latest_checkpoint(checkpoints_dir)).step == 2


def test_r9_a_file_size_limit_keeps_the_checkpoint(tmp_path):
    save_checkpoint(tmp_path, snapshot(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"File too large \(60,000 bytes needed"):
            save_checkpoint(tmp_path, snapshot(2, size=5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def cut(data):
    return data[:-2]  # without the line break at its end, the manifest is still valid


def empty(_data):
    return b""


def zero(data):
    return bytes(len(data))


def flip_one_bit(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.filterwarnings("ignore:skipped a corrupt checkpoint")
@pytest.mark.parametrize("damage", [cut, empty, zero, flip_one_bit, None])
@pytest.mark.parametrize("file", FILES)
def test_r10_damage_to_any_file_is_detected_and_the_previous_checkpoint_is_used(tmp_path, file, damage):
    older, newest = (save_checkpoint(tmp_path, snapshot(step)) for step in (1, 2))
    if damage is None:
        (newest / file).unlink()
    else:
        (newest / file).write_bytes(damage((newest / file).read_bytes()))
    assert latest_checkpoint(tmp_path) == older
    assert assert_valid(older) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002.corrupt"]


def test_r10_each_of_a_thousand_flipped_bits_is_detected(tmp_path):
    path = save_checkpoint(tmp_path, snapshot(1))
    rng = random.Random(0)
    for _ in range(1000):
        file = path / rng.choice(FILES)
        data = file.read_bytes()
        offset, bit = rng.randrange(len(data)), rng.randrange(8)
        file.write_bytes(data[:offset] + bytes([data[offset] ^ 1 << bit]) + data[offset + 1 :])
        with pytest.raises(WeightsError):
            verify_manifest(path, required=[])
        file.write_bytes(data)
    verify_manifest(path, required=[])


@pytest.mark.filterwarnings("ignore:skipped a corrupt checkpoint")
def test_r11_if_all_checkpoints_are_corrupt_no_run_starts_from_scratch(tmp_path):
    for step in (1, 2):
        (save_checkpoint(tmp_path, snapshot(step)) / "state.json").write_bytes(b"{}")
    for _ in range(3):
        with pytest.raises(
            WeightsError, match=r"no checkpoint in .* step-00000001\.corrupt, step-00000002\.corrupt\. Restore one"
        ):
            latest_checkpoint(tmp_path)


def do_nothing():
    """Kill nothing: `Disk` suppresses all later changes anyway."""


@pytest.mark.parametrize("step", [2, 1], ids=["the next step", "the same step again"])
def test_r12_a_kill_between_any_two_changes_leaves_a_valid_checkpoint(tmp_path, step):
    for checkpoints_dir, disk in each_change(tmp_path, kill=do_nothing):
        with disk.mounted(), suppress(Killed):
            save(checkpoints_dir, step)
        assert {assert_valid(path) for path in list_checkpoints(checkpoints_dir)} <= {1, step}
        assert latest_checkpoint(checkpoints_dir) is not None, disk.changes[-1]
        save(checkpoints_dir, 3)
        assert len(list(checkpoints_dir.iterdir())) == 1


def test_r12_repeated_kills_during_saves_never_lose_a_finished_step(tmp_path):
    rng = random.Random(0)
    save_checkpoint(tmp_path, snapshot(0))
    for _ in range(60):
        last_step = assert_valid(latest_checkpoint(tmp_path))
        with Disk(rng.randrange(1, 60), kill=do_nothing).mounted() as disk, suppress(Killed):
            save(tmp_path, last_step + 1)
        assert assert_valid(latest_checkpoint(tmp_path)) in (
            {last_step, last_step + 1} if disk.has_failed else {last_step + 1}
        )
    assert last_step > 20


DRIVER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from faults import Disk
from zebra.train.snapshot import TrainSnapshot
from zebra.train.checkpoint_writer import CheckpointWriter

def train(folder):
    weights = torch.empty(4)
    with CheckpointWriter(folder, num_to_keep=1) as writer:
        for step in (1, 2):
            weights.fill_(step)
            writer.save(TrainSnapshot(step, {"model": {"w": weights}}, {"position": step}))

def die():
    os.kill(os.getpid(), signal.SIGKILL)

nth, killed = 0, True
while killed:
    nth += 1
    child = os.fork()
    if not child:
        with Disk(nth, die).mounted():
            train(Path(sys.argv[2]) / str(nth))
        os._exit(0)
    killed = os.waitpid(child, 0)[1] == signal.SIGKILL
print(nth)
"""


def test_r12_sigkill_between_any_two_changes_leaves_the_last_finished_save(tmp_path):
    """Kill a process that trains and saves in the background; a kill during the first save leaves nothing."""
    result = subprocess.run(
        [sys.executable, "-c", DRIVER, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 35
    checkpoints = [latest_checkpoint(tmp_path / str(nth)) for nth in range(1, int(result.stdout) + 1)]
    steps = [assert_valid(path) if path else 0 for path in checkpoints]
    assert steps == sorted(steps)
    assert {*steps} == {0, 1, 2}


def test_r12_files_are_flushed_before_the_rename_and_older_ones_removed_after_it(tmp_path):
    """The order of flushes, which only a power failure would show."""
    save_checkpoint(tmp_path, snapshot(1))
    with Disk().mounted() as disk:
        save(tmp_path, 2)
    renamed = disk.changes.index(("rename", ".partial-step-00000002"))
    last_write = max(index for index, (operation, _) in enumerate(disk.changes) if operation == "write")
    flushed = [name for operation, name in disk.changes[last_write:renamed] if operation == "fsync"]
    assert sorted(flushed[:-1]) == sorted(FILES)
    assert flushed[-1] == ".partial-step-00000002"
    after = disk.changes[renamed + 1 :]
    assert after[:2] == [("fsync", tmp_path.name), ("fsync", tmp_path.parent.name)]
    assert [operation for operation, _ in disk.changes if operation in ("unlink", "rmdir")] == [
        operation for operation, _ in after if operation in ("unlink", "rmdir")
    ]


@pytest.fixture
def gate(monkeypatch):
    """A slow disk: a save ends when the test opens the gate."""
    opened = threading.Event()
    real = checkpoint_writer.save_checkpoint

    def gated_save(checkpoints_dir, snapshot_copy):
        assert opened.wait(timeout=30)
        return real(checkpoints_dir, snapshot_copy)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", gated_save)
    yield opened
    opened.set()


def test_r13_the_saved_weights_are_those_of_the_step_although_training_continues(tmp_path, gate):
    live = snapshot(1)
    with CheckpointWriter(tmp_path, num_to_keep=1) as writer:
        writer.save(live)
        for named in live.tensors.values():
            named["w"].fill_(9)
        live.state["position"] = 9
        gate.set()
    assert assert_valid(latest_checkpoint(tmp_path)) == 1


def test_r13_the_next_save_waits_for_the_previous_one(tmp_path, gate):
    with CheckpointWriter(tmp_path, num_to_keep=9) as writer, ThreadPoolExecutor(1) as training:
        writer.save(snapshot(1))
        second = training.submit(writer.save, snapshot(2))
        with pytest.raises(TimeoutError):
            second.result(timeout=0.2)
        assert list_checkpoints(tmp_path) == []
        gate.set()
        second.result(timeout=30)
    assert [assert_valid(path) for path in list_checkpoints(tmp_path)] == [1, 2]


def test_r13_two_saves_never_overlap(tmp_path, monkeypatch):
    active, num_active = [], []
    real = checkpoint_writer.save_checkpoint

    def counting_save(checkpoints_dir, snapshot_copy):
        active.append(snapshot_copy.step)
        num_active.append(len(active))
        path = real(checkpoints_dir, snapshot_copy)
        active.remove(snapshot_copy.step)
        return path

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", counting_save)
    with CheckpointWriter(tmp_path, num_to_keep=1) as writer:
        for step in range(20):
            writer.save(snapshot(step))
    assert num_active == [1] * 20


def test_r13_the_error_of_a_save_is_raised_at_the_next_step(tmp_path):
    (tmp_path / "file").write_text("a file, not a directory")
    with CheckpointWriter(tmp_path / "file" / "checkpoints", num_to_keep=1) as writer:
        writer.save(snapshot(1))
        writer._pending.exception()  # wait until it has failed
        with pytest.raises(CheckpointError, match="Not a directory"):
            writer.raise_if_failed()


def test_r13_a_step_does_not_wait_for_a_save(tmp_path, gate):
    with CheckpointWriter(tmp_path, num_to_keep=1) as writer:
        writer.save(snapshot(1))
        writer.raise_if_failed()
        assert list_checkpoints(tmp_path) == []
        gate.set()
