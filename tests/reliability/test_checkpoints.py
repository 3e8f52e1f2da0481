"""Scorecard rows about checkpoints: failing disks, full disks, damage, crashes between any two operations.

They use a checkpoint of a few hundred bytes: what is tested is the order of what happens to files.
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
    """A run whose every value says its step."""
    tensors = {part: {"w": torch.full((size,), float(step))} for part in ("model", "optimizer", "rng")}
    return TrainSnapshot(step, tensors, {"position": step})


def save(folder, step):
    save_checkpoint(folder, snapshot(step))
    prune_checkpoints(folder, num_to_keep=1)


def assert_whole(path):
    """What is there is exactly one step."""
    back = load_checkpoint(path)
    assert back.state == {"position": back.step}
    for named in back.tensors.values():
        assert torch.equal(named["w"], torch.full((4,), float(back.step)))
    return back.step


def start(folder, steps=(1,)):
    """Leave what a run has on disk: checkpoints, and debris of an earlier crash."""
    for step in steps:
        save_checkpoint(folder, snapshot(step))
    (folder / ".partial-step-00000077").mkdir()
    (folder / ".partial-step-00000077" / "model.safetensors").write_bytes(b"half")


def each_change(tmp_path, kill=None):
    """Yield a folder with a checkpoint and a disk that breaks at its n-th change, until a save breaks none."""
    start(tmp_path / "start")
    nth = 0
    while True:
        nth += 1
        folder = tmp_path / str(nth)
        shutil.copytree(tmp_path / "start", folder)
        disk = Disk(nth, kill)
        yield folder, disk
        if not disk.broke:
            break
    assert nth > 35  # every write, flush, rename and removal of a save


def test_r8_whichever_change_of_a_save_fails_a_whole_checkpoint_stays_and_the_error_is_reported(tmp_path):
    for folder, disk in each_change(tmp_path):
        reported = []
        with warnings.catch_warnings(record=True) as warned, disk.mounted():
            warnings.simplefilter("always")
            try:
                save(folder, 2)
            except CheckpointError as error:
                reported.append(error)
        assert bool(reported or warned) == disk.broke, disk.changes[-1:]
        found = list_checkpoints(folder)
        assert {assert_whole(path) for path in found} <= {1, 2}
        assert assert_whole(latest_checkpoint(folder)) == 2 or reported, disk.changes[-1]


def test_r8_after_any_failure_the_next_save_passes_and_leaves_no_debris(tmp_path):
    for folder, disk in each_change(tmp_path):
        with warnings.catch_warnings(action="ignore"), disk.mounted(), suppress(CheckpointError):
            save(folder, 2)
        save(folder, 3)
        assert [path.name for path in folder.iterdir()] == ["step-00000003"]


def test_r8_a_failed_write_leaves_nothing_behind(tmp_path):
    start(tmp_path)
    with Disk(nth=12).mounted(), pytest.raises(CheckpointError, match="Input/output error"):
        save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for one checkpoint and a half (of 60 kB)."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root; the limit of a file's size is tested in its place")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_r9_a_full_disk_keeps_the_checkpoint_and_says_how_much_is_missing(small_disk):
    folder = small_disk / "checkpoints"
    save_checkpoint(folder, snapshot(1, size=5000))
    with pytest.raises(
        CheckpointError, match=r"No space left on device \(60,000 bytes needed, [\d,]+ free\)"
    ):
        save_checkpoint(folder, snapshot(2, size=5000))
    assert [path.name for path in folder.iterdir()] == ["step-00000001"]
    assert latest_checkpoint(folder) == folder / "step-00000001"


def test_r9_after_making_room_the_run_goes_on(small_disk):
    folder = small_disk / "checkpoints"
    save_checkpoint(folder, snapshot(1, size=5000))
    (small_disk / "other").write_bytes(bytes(20_000))
    with pytest.raises(CheckpointError):
        save_checkpoint(folder, snapshot(2, size=1000))
    (small_disk / "other").unlink()
    save_checkpoint(folder, snapshot(2, size=1000))
    assert load_checkpoint(latest_checkpoint(folder)).step == 2


def test_r9_a_file_that_may_not_grow_keeps_the_checkpoint(tmp_path):
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
    return data[:-2]  # the manifest's last byte is a line break, without which it says the same


def empty(_data):
    return b""


def zero(data):
    return bytes(len(data))


def flip_one_bit(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.filterwarnings("ignore:skipped a corrupt checkpoint")
@pytest.mark.parametrize("ruin", [cut, empty, zero, flip_one_bit, None])
@pytest.mark.parametrize("file", FILES)
def test_r10_damage_to_any_file_is_found_set_aside_and_fallen_back_from(tmp_path, file, ruin):
    older, newest = (save_checkpoint(tmp_path, snapshot(step)) for step in (1, 2))
    if ruin is None:
        (newest / file).unlink()
    else:
        (newest / file).write_bytes(ruin((newest / file).read_bytes()))
    assert latest_checkpoint(tmp_path) == older
    assert assert_whole(older) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002.corrupt"]


def test_r10_of_a_thousand_flipped_bits_every_one_is_found(tmp_path):
    path = save_checkpoint(tmp_path, snapshot(1))
    dice = random.Random(0)
    for _ in range(1000):
        file = path / dice.choice(FILES)
        data = file.read_bytes()
        place, bit = dice.randrange(len(data)), dice.randrange(8)
        file.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        with pytest.raises(WeightsError):
            verify_manifest(path)
        file.write_bytes(data)
    verify_manifest(path)


@pytest.mark.filterwarnings("ignore:skipped a corrupt checkpoint")
def test_r11_with_every_checkpoint_damaged_no_run_starts_from_scratch_however_often_it_is_tried(tmp_path):
    for step in (1, 2):
        (save_checkpoint(tmp_path, snapshot(step)) / "state.json").write_bytes(b"{}")
    for _ in range(3):
        with pytest.raises(
            WeightsError,
            match=r"no checkpoint in .* step-00000001\.corrupt, step-00000002\.corrupt\. Restore one",
        ):
            latest_checkpoint(tmp_path)


def dead():
    """What `Disk` calls to kill; that nothing follows is all there is to it."""


@pytest.mark.parametrize("step", [2, 1], ids=["the next step", "the same step again"])
def test_r12_killed_between_any_two_changes_a_verified_checkpoint_is_there(tmp_path, step):
    for folder, disk in each_change(tmp_path, kill=dead):
        with disk.mounted(), suppress(Killed):
            save(folder, step)
        assert {assert_whole(path) for path in list_checkpoints(folder)} <= {1, step}
        assert latest_checkpoint(folder) is not None, disk.changes[-1]
        save(folder, 3)
        assert len(list(folder.iterdir())) == 1


def test_r12_a_run_that_is_killed_in_save_after_save_never_goes_back(tmp_path):
    dice = random.Random(0)
    save_checkpoint(tmp_path, snapshot(0))
    for _ in range(60):
        done = assert_whole(latest_checkpoint(tmp_path))
        with Disk(dice.randrange(1, 60), kill=dead).mounted() as disk, suppress(Killed):
            save(tmp_path, done + 1)
        assert assert_whole(latest_checkpoint(tmp_path)) in ({done, done + 1} if disk.broke else {done + 1})
    assert done > 20


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


def test_r12_sigkill_between_any_two_changes_leaves_the_last_save_that_ended(tmp_path):
    """A process that trains and saves beside it, killed for real; one that dies in its first save leaves nothing."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40
    found = [latest_checkpoint(tmp_path / str(nth)) for nth in range(1, int(done.stdout) + 1)]
    steps = [assert_whole(path) if path else 0 for path in found]
    assert steps == sorted(steps)
    assert {*steps} == {0, 1, 2}


def test_r12_nothing_is_renamed_before_it_is_on_disk_or_removed_before_the_new_one_is(tmp_path):
    """What only a power cut would show: the order of the flushes."""
    save_checkpoint(tmp_path, snapshot(1))
    with Disk().mounted() as disk:
        save(tmp_path, 2)
    renamed = disk.changes.index(("rename", ".partial-step-00000002"))
    last_write = max(at for at, (what, _) in enumerate(disk.changes) if what == "write")
    flushed = [name for what, name in disk.changes[last_write:renamed] if what == "fsync"]
    assert sorted(flushed[:-1]) == sorted(FILES)
    assert flushed[-1] == ".partial-step-00000002"
    after = disk.changes[renamed + 1 :]
    assert after[:2] == [("fsync", tmp_path.name), ("fsync", tmp_path.parent.name)]
    assert [what for what, _ in disk.changes if what in ("unlink", "rmdir")] == [
        what for what, _ in after if what in ("unlink", "rmdir")
    ]


@pytest.fixture
def gate(monkeypatch):
    """A disk so slow that a save ends when the test says so."""
    opened = threading.Event()
    real = checkpoint_writer.save_checkpoint

    def slow(folder, taken):
        assert opened.wait(timeout=30)
        return real(folder, taken)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", slow)
    yield opened
    opened.set()


def test_r13_the_weights_saved_are_those_of_the_step_though_training_goes_on(tmp_path, gate):
    live = snapshot(1)
    with CheckpointWriter(tmp_path, num_to_keep=1) as writes:
        writes.save(live)
        for named in live.tensors.values():
            named["w"].fill_(9)
        live.state["position"] = 9
        gate.set()
    assert assert_whole(latest_checkpoint(tmp_path)) == 1


def test_r13_the_next_save_waits_for_the_one_before(tmp_path, gate):
    with CheckpointWriter(tmp_path, num_to_keep=9) as writes, ThreadPoolExecutor(1) as training:
        writes.save(snapshot(1))
        second = training.submit(writes.save, snapshot(2))
        with pytest.raises(TimeoutError):
            second.result(timeout=0.2)
        assert list_checkpoints(tmp_path) == []
        gate.set()
        second.result(timeout=30)
    assert [assert_whole(path) for path in list_checkpoints(tmp_path)] == [1, 2]


def test_r13_two_saves_never_overlap(tmp_path, monkeypatch):
    at_work, most = [], []
    real = checkpoint_writer.save_checkpoint

    def watched(folder, taken):
        at_work.append(taken.step)
        most.append(len(at_work))
        path = real(folder, taken)
        at_work.remove(taken.step)
        return path

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", watched)
    with CheckpointWriter(tmp_path, num_to_keep=1) as writes:
        for step in range(20):
            writes.save(snapshot(step))
    assert most == [1] * 20


def test_r13_the_error_of_a_save_surfaces_at_the_next_step(tmp_path):
    writes = CheckpointWriter(tmp_path / "file" / "checkpoints", num_to_keep=1)
    (tmp_path / "file").write_text("in the way")
    writes.save(snapshot(1))
    writes._pending.exception()  # the step after it has ended
    with pytest.raises(CheckpointError, match="Not a directory"):
        writes.raise_if_failed()
    writes.close()


def test_r13_a_step_does_not_wait_for_a_save(tmp_path, gate):
    with CheckpointWriter(tmp_path, num_to_keep=1) as writes:
        writes.save(snapshot(1))
        writes.raise_if_failed()
        assert list_checkpoints(tmp_path) == []
        gate.set()
