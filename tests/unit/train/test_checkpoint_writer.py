"""The writer: beside the training, one at a time, and never silent about a save that failed."""

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


def fail(_folder, snapshot):
    raise CheckpointError(f"no room for {snapshot.step}")


def wait_for(pending):
    pending.exception()


def test_when_the_writer_closes_the_last_save_is_on_disk(tmp_path):
    with CheckpointWriter(tmp_path, num_to_keep=2) as writes:
        writes.save(live(1))
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 1


def test_old_checkpoints_are_purged_after_each_save(tmp_path):
    with CheckpointWriter(tmp_path, num_to_keep=2) as writes:
        for step, score in enumerate((0.9, 0.1, None, None, None)):
            writes.save(live(step, score=score))
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step-00000000",
        "step-00000003",
        "step-00000004",
    ]


def test_what_it_wrote_is_read_back_once(tmp_path, monkeypatch):
    """Before anything older goes; and never again, or saving would cost more with every checkpoint kept."""
    reads = []
    real = checkpoint.sha256
    monkeypatch.setattr(
        checkpoint_writer,
        "memoize_digest",
        lambda: checkpoint.memoize_digest(lambda p: (reads.append(p), real(p))[1]),
    )
    with CheckpointWriter(tmp_path, num_to_keep=9) as writes:
        for step in range(4):
            writes.save(live(step))
    assert len(reads) == len(set(reads)) == 4 * 2


def test_saving_again_takes_no_more_memory(tmp_path):
    with CheckpointWriter(tmp_path, num_to_keep=1) as writes:
        writes.save(live(1))
        place = writes._buffers.tensors["model"]["w"].data_ptr()
        writes.save(live(2))
        assert writes._buffers.tensors["model"]["w"].data_ptr() == place
    assert float(load_checkpoint(latest_checkpoint(tmp_path)).tensors["model"]["w"][0]) == 2


def test_an_error_is_raised_once(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", fail)
    writes = CheckpointWriter(tmp_path, num_to_keep=1)
    writes.save(live(1))
    wait_for(writes._pending)
    with pytest.raises(CheckpointError):
        writes.raise_if_failed()
    writes.raise_if_failed()
    writes.close()


def test_the_next_save_raises_the_error_of_the_one_before_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", fail)
    writes = CheckpointWriter(tmp_path, num_to_keep=1)
    writes.save(live(1))
    with pytest.raises(CheckpointError, match="no room for 1"):
        writes.save(live(2))
    writes.close()


def test_closing_raises_the_error_of_the_last_save(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", fail)
    with (
        pytest.raises(CheckpointError, match="no room for 1"),
        CheckpointWriter(tmp_path, num_to_keep=1) as writes,
    ):
        writes.save(live(1))


def test_what_ended_the_run_is_not_hidden_by_a_save_that_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", fail)
    with (
        pytest.warns(UserWarning, match="no room for 1"),
        pytest.raises(DivergenceError),
        CheckpointWriter(tmp_path, num_to_keep=1) as writes,
    ):
        writes.save(live(1))
        raise DivergenceError


def test_no_thread_is_left(tmp_path):
    before = threading.active_count()
    with CheckpointWriter(tmp_path, num_to_keep=1) as writes:
        writes.save(live(1))
    assert threading.active_count() == before


def test_a_writer_that_never_saves_makes_no_folder(tmp_path):
    with CheckpointWriter(tmp_path / "checkpoints", num_to_keep=1) as writes:
        writes.raise_if_failed()
    assert not (tmp_path / "checkpoints").exists()
