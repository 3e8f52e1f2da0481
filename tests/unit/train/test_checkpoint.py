"""Checkpoints: exact, verified, in the order of writing, and never skipped silently."""

import errno
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zebra.errors import CheckpointError, WeightsError
from zebra.pretrained.manifest import verify_manifest
from zebra.train import checkpoint
from zebra.train.checkpoint import (
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    memoize_digest,
    prune_checkpoints,
    save_checkpoint,
)
from zebra.train.snapshot import TrainSnapshot, restore_tensors

from .test_snapshot import parts, run, train


def snapshot(step, score=None):
    tensors = {"model": {"w": torch.full((3, 5), float(step))}, "rng": {"cpu": torch.zeros(7, dtype=torch.uint8)}}
    return TrainSnapshot(step, tensors, {"position": 8 * step}, score)


def write(checkpoints_dir, *steps, score=None):
    return [save_checkpoint(checkpoints_dir, snapshot(step, score)) for step in steps][-1]


def corrupt(path):
    flip_last_bit(path / "model.safetensors")


def flip_last_bit(file):
    *data, last = file.read_bytes()
    file.write_bytes(bytes([*data, last ^ 1]))


def names(checkpoints_dir):
    return [path.name for path in list_checkpoints(checkpoints_dir)]


def test_two_steps_a_checkpoint_and_two_steps_equal_four_steps_bit_for_bit(tmp_path):
    uninterrupted, first, second = run(), run(), run(seed=9)
    train(*uninterrupted, 2)
    train(*uninterrupted, 2)
    train(*first, 2)
    path = save_checkpoint(tmp_path, TrainSnapshot(2, parts(*first), {}))
    restore_tensors(parts(*second), load_checkpoint(path).tensors, str(path))
    train(*second, 2)
    for part, named in parts(*uninterrupted).items():
        for name, value in named.items():
            assert torch.equal(value, parts(*second)[part][name]), name


def test_a_checkpoint_restores_the_whole_snapshot(tmp_path):
    loaded = load_checkpoint(save_checkpoint(tmp_path, snapshot(4, score=0.25)))
    assert (loaded.step, loaded.state, loaded.score) == (4, {"position": 32}, 0.25)
    assert {part: list(named) for part, named in loaded.tensors.items()} == {"model": ["w"], "rng": ["cpu"]}
    assert torch.equal(loaded.tensors["model"]["w"], torch.full((3, 5), 4.0))


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path):
    path = write(tmp_path, 1)
    assert sorted(file.name for file in path.iterdir()) == [
        "MANIFEST.json",
        "model.safetensors",
        "rng.safetensors",
        "state.json",
    ]
    json.loads((path / "state.json").read_text())
    load_file(path / "rng.safetensors")


@pytest.mark.parametrize("dtype", checkpoint.SAFETENSORS_DTYPES)
def test_the_safetensors_library_reads_every_dtype(tmp_path, dtype):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "shape": torch.randint(0, 2, (7, 3), generator=generator).to(dtype),
        "scalar": torch.ones((), dtype=dtype),
        "empty": torch.zeros((0, 4), dtype=dtype),
        "permuted": torch.randint(0, 2, (3, 4, 5), generator=generator).to(dtype).permute(2, 0, 1),
        "bytes": torch.arange(3, dtype=torch.uint8),
        "é/\"'": torch.arange(5),
    }
    read = load_file(save_checkpoint(tmp_path, TrainSnapshot(1, {"part": tensors}, {})) / "part.safetensors")
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value), name


def test_a_part_may_be_empty(tmp_path):
    assert load_checkpoint(save_checkpoint(tmp_path, TrainSnapshot(1, {"ema": {}}, {}))).tensors == {"ema": {}}


def test_every_tensor_is_aligned(tmp_path):
    tensors = {"a": torch.zeros(3, dtype=torch.uint8), "b": torch.zeros(2), "c": torch.zeros(1, dtype=torch.int64)}
    data = (save_checkpoint(tmp_path, TrainSnapshot(1, {"part": tensors}, {})) / "part.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    for name, entry in json.loads(data[8 : 8 + length]).items():
        assert entry["data_offsets"][0] % tensors[name].element_size() == 0, name


class FlippingFile(io.FileIO):
    """A file that flips the last bit of every write."""

    def write(self, data):
        *rest, last = bytes(data)
        return super().write(bytes([*rest, last ^ 1]))


def test_the_manifest_records_the_intended_content(tmp_path, monkeypatch):
    """A digest of the written file would hide a write error."""
    real = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "open", lambda *args, **options: (FlippingFile if args[1:] == ("wb",) else real)(*args, **options)
        )
        path = write(tmp_path, 1)
    with pytest.raises(WeightsError, match="differs from its recorded sha256"):
        verify_manifest(path, required=[])


def test_checkpoints_are_listed_in_the_order_of_their_steps(tmp_path):
    for name in ("step-100000000", "step-00000009", "step-00000010", "step-x", "step-00000011.corrupt"):
        (tmp_path / name).mkdir()
    assert names(tmp_path) == ["step-00000009", "step-00000010", "step-100000000"]


def test_a_missing_directory_has_no_checkpoints(tmp_path):
    assert list_checkpoints(tmp_path / "absent") == []
    assert latest_checkpoint(tmp_path / "absent") is None


def test_the_latest_checkpoint_is_the_last_written_one_also_after_going_back(tmp_path):
    write(tmp_path, 100, 200, 300)
    write(tmp_path, 200, 300)
    write(tmp_path, 300)
    write(tmp_path, 400)
    assert names(tmp_path) == [
        "step-00000100",
        "step-00000200",
        "step-00000300",
        "step-00000200.2",
        "step-00000300.2",
        "step-00000300.3",
        "step-00000400.3",
    ]
    assert latest_checkpoint(tmp_path) == tmp_path / "step-00000400.3"


def test_a_repeated_step_does_not_change_the_older_checkpoint(tmp_path):
    first = write(tmp_path, 7, score=0.1)
    second = write(tmp_path, 7, score=0.2)
    assert (load_checkpoint(first).score, load_checkpoint(second).score) == (0.1, 0.2)


def test_a_corrupt_checkpoint_is_renamed_with_a_warning_and_the_previous_one_is_used(tmp_path):
    older, newest = write(tmp_path, 1), write(tmp_path, 2)
    corrupt(newest)
    with pytest.warns(UserWarning, match=r"skipped a corrupt checkpoint: .*sha256.*; it is step-00000002\.corrupt now"):
        assert latest_checkpoint(tmp_path) == older
    assert (tmp_path / "step-00000002.corrupt" / "model.safetensors").is_file()


@pytest.mark.filterwarnings("ignore:skipped a corrupt checkpoint")
def test_two_checkpoints_of_one_step_may_be_corrupt(tmp_path):
    write(tmp_path, 1)
    for _ in range(2):
        corrupt(write(tmp_path, 2))
        assert latest_checkpoint(tmp_path) == tmp_path / "step-00000001"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-00000001",
        "step-00000002.corrupt",
        "step-00000002.corrupt-2",
    ]


def test_a_checkpoint_without_its_manifest_is_corrupt(tmp_path):
    (write(tmp_path, 1) / "MANIFEST.json").unlink()
    with pytest.warns(UserWarning, match=r"no MANIFEST\.json"), pytest.raises(WeightsError, match="is valid"):
        latest_checkpoint(tmp_path)


def test_a_checkpoint_with_a_bad_sector_is_corrupt(tmp_path, monkeypatch):
    older, newest = write(tmp_path, 1), write(tmp_path, 2)
    real = checkpoint.sha256

    def read(path):
        if path.parent == newest:
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(checkpoint, "sha256", read)
    with pytest.warns(UserWarning, match="Input/output error"):
        assert latest_checkpoint(tmp_path) == older


def test_an_unreadable_checkpoint_is_not_corrupt(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = write(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "sha256", refuse)
    with pytest.raises(PermissionError):
        latest_checkpoint(tmp_path)
    assert path.is_dir()


def test_a_corrupt_checkpoint_that_cannot_be_renamed_is_skipped(tmp_path, monkeypatch):
    older, newest = write(tmp_path, 1), write(tmp_path, 2)
    corrupt(newest)
    monkeypatch.setattr(Path, "rename", raise_read_only)
    with pytest.warns(UserWarning, match="it could not be renamed"):
        assert latest_checkpoint(tmp_path) == older


def raise_read_only(*_arguments, **_options):
    raise OSError(errno.EROFS, "Read-only file system")


def test_loading_verifies_first(tmp_path):
    path = write(tmp_path, 1)
    corrupt(path)
    with pytest.raises(WeightsError, match="sha256"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_layout_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_checkpoint_files", lambda _snapshot: [("state.json", [b'{"step": 3}'])])
    with pytest.raises(WeightsError, match="lacks 'state': another version of zebra wrote it"):
        load_checkpoint(write(tmp_path, 3))


def test_a_partial_checkpoint_never_counts_and_is_removed(tmp_path):
    (tmp_path / ".partial-step-00000009").mkdir()
    (tmp_path / ".partial-step-00000009" / "model.safetensors").write_text("half")
    assert latest_checkpoint(tmp_path) is None
    write(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_write_error_names_the_checkpoint_and_the_remedy(tmp_path, monkeypatch):
    def full(_path, _chunks):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "_write_file", full)
    pattern = (
        rf"could not write checkpoint {re.escape(str(tmp_path))}/step-00000001: No space left on device "
        r"\(67 bytes needed, [\d,]+ free\)\. Older checkpoints are unchanged\. Free disk space or repair the disk"
    )
    with pytest.raises(CheckpointError, match=pattern):
        write(tmp_path, 1)


def test_pruning_keeps_the_latest(tmp_path):
    write(tmp_path, 1, 2, 3, 4)
    prune_checkpoints(tmp_path, num_to_keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_pruning_keeps_the_best_besides_the_latest(tmp_path):
    for step, score in enumerate((float("nan"), 0.9, 0.1, None, 0.3, None)):
        write(tmp_path, step, score=score)
    prune_checkpoints(tmp_path, num_to_keep=1)
    assert names(tmp_path) == ["step-00000001", "step-00000005"]


def test_of_equal_scores_the_latest_is_best(tmp_path):
    write(tmp_path, 1, 2, score=0.5)
    write(tmp_path, 3, score=0.4)
    prune_checkpoints(tmp_path, num_to_keep=1)
    assert names(tmp_path) == ["step-00000002", "step-00000003"]


def test_a_corrupt_checkpoint_is_not_the_best(tmp_path):
    write(tmp_path, 1, score=0.5)
    corrupt(write(tmp_path, 2, score=0.9))
    write(tmp_path, 3, score=0.1)
    with pytest.warns(UserWarning, match="skipped a corrupt checkpoint"):
        prune_checkpoints(tmp_path, num_to_keep=1)
    assert names(tmp_path) == ["step-00000001", "step-00000003"]


def test_corrupt_checkpoints_do_not_count_among_the_latest(tmp_path):
    write(tmp_path, 1, 2)
    corrupt(write(tmp_path, 3))
    with pytest.warns(UserWarning, match="skipped a corrupt checkpoint"):
        prune_checkpoints(tmp_path, num_to_keep=2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_a_checkpoint_that_cannot_be_removed_causes_a_warning_and_others_are_removed(tmp_path, monkeypatch):
    write(tmp_path, 1, 2, 3)
    real = shutil.rmtree

    def fail_for_one(path, **options):
        if "step-00000001" in str(path):
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(path, **options)

    monkeypatch.setattr(shutil, "rmtree", fail_for_one)
    with pytest.warns(UserWarning, match=r"could not remove .*step-00000001, which is no longer needed"):
        prune_checkpoints(tmp_path, num_to_keep=1)
    assert names(tmp_path) == ["step-00000003"]


def test_removal_is_tried_again_at_the_next_save(tmp_path, monkeypatch):
    write(tmp_path, 1, 2)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="could not remove"):
        patch.setattr(shutil, "rmtree", raise_read_only)
        prune_checkpoints(tmp_path, num_to_keep=1)
    write(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_a_memoized_digest_reads_a_file_again_only_if_it_changed(tmp_path):
    reads = []
    digest = memoize_digest(lambda path: (reads.append(path), checkpoint.sha256(path))[1])
    path = write(tmp_path, 1)
    for _ in range(2):
        verify_manifest(path, digest, required=[])
    assert len(reads) == 3
    with (path / "state.json").open("a") as file:
        file.write(" ")
    digest(path / "state.json")
    assert len(reads) == 4
