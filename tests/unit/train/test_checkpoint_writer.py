"""Checkpoint writer: asynchronous, one save at a time, and no failed save goes unreported."""

import threading

import pytest
import torch

from zebra.errors import CheckpointError, DivergenceError
from zebra.train import checkpoint, checkpoint_writer
from zebra.train.checkpoint import latest_checkpoint, list_checkpoints, load_checkpoint
from zebra.train.checkpoint_writer import CheckpointWriter
from zebra.train.snapshot import TrainSnapshot


def live(step, weights=None, score=None):
    weights = torch.full((3,), float(step)) if weights is None else weights
    return TrainSnapshot(step, {"model": {"w": weights}}, {}, score)


def fail(_checkpoints_dir, snapshot):
    raise CheckpointError(f"no space for {snapshot.step}")


def wait_for(pending):
    pending.exception()


def test_the_last_save_is_on_disk_when_the_writer_closes(tmp_path):
    with CheckpointWriter(tmp_path, num_to_keep=2) as writer:
        writer.save(live(1))
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 1


def test_old_checkpoints_are_pruned_after_each_save(tmp_path):
    with CheckpointWriter(tmp_path, num_to_keep=2) as writer:
        for step, score in enumerate((0.9, 0.1, None, None, None)):
            writer.save(live(step, score=score))
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000000", "step-00000003", "step-00000004"]


def test_a_new_checkpoint_is_verified_once(tmp_path, monkeypatch):
    """It is verified before older ones are removed. Verifying all of them at each save would cost ever more."""
    reads = []
    real = checkpoint.sha256
    monkeypatch.setattr(
        checkpoint_writer, "memoize_digest", lambda: checkpoint.memoize_digest(lambda p: (reads.append(p), real(p))[1])
    )
    with CheckpointWriter(tmp_path, num_to_keep=9) as writer:
        for step in range(4):
            writer.save(live(step))
    assert len(reads) == len(set(reads)) == 4 * 2


def test_the_next_save_reuses_the_buffers(tmp_path):
    with CheckpointWriter(tmp_path, num_to_keep=1) as writer:
        writer.save(live(1))
        address = writer._buffers.tensors["model"]["w"].data_ptr()
        writer.save(live(2))
        assert writer._buffers.tensors["model"]["w"].data_ptr() == address
    assert float(load_checkpoint(latest_checkpoint(tmp_path)).tensors["model"]["w"][0]) == 2


def test_the_error_of_a_save_is_raised_once(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", fail)
    with CheckpointWriter(tmp_path, num_to_keep=1) as writer:
        writer.save(live(1))
        wait_for(writer._pending)
        with pytest.raises(CheckpointError):
            writer.raise_if_failed()
        writer.raise_if_failed()


def test_the_next_save_raises_the_error_of_the_previous_one_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", fail)
    with CheckpointWriter(tmp_path, num_to_keep=1) as writer:
        writer.save(live(1))
        with pytest.raises(CheckpointError, match="no space for 1"):
            writer.save(live(2))


def test_closing_raises_the_error_of_the_last_save(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", fail)
    with pytest.raises(CheckpointError, match="no space for 1"), CheckpointWriter(tmp_path, num_to_keep=1) as writer:
        writer.save(live(1))


def test_a_failed_save_does_not_hide_the_error_that_ended_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", fail)
    with (
        pytest.warns(UserWarning, match="no space for 1"),
        pytest.raises(DivergenceError),
        CheckpointWriter(tmp_path, num_to_keep=1) as writer,
    ):
        writer.save(live(1))
        raise DivergenceError


def test_closing_ends_the_thread(tmp_path):
    before = threading.active_count()
    with CheckpointWriter(tmp_path, num_to_keep=1) as writer:
        writer.save(live(1))
    assert threading.active_count() == before


def test_a_writer_without_a_save_creates_no_directory(tmp_path):
    with CheckpointWriter(tmp_path / "checkpoints", num_to_keep=1) as writer:
        writer.raise_if_failed()
    assert not (tmp_path / "checkpoints").exists()
