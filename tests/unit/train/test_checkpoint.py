"""Checkpoints: exact, in the order of writing, verified, and never fallen short of in silence."""

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
    tensors = {
        "model": {"w": torch.full((3, 5), float(step))},
        "rng": {"cpu": torch.zeros(7, dtype=torch.uint8)},
    }
    return TrainSnapshot(step, tensors, {"position": 8 * step}, score)


def write(folder, *steps, score=None):
    return [save_checkpoint(folder, snapshot(step, score)) for step in steps][-1]


def damage(path):
    flip_last_bit(path / "model.safetensors")


def flip_last_bit(file):
    *data, last = file.read_bytes()
    file.write_bytes(bytes([*data, last ^ 1]))


def names(folder):
    return [path.name for path in list_checkpoints(folder)]


def test_two_steps_and_two_more_equal_four_bit_for_bit(tmp_path):
    whole, first, second = run(), run(), run(seed=9)
    train(*whole, 2)
    train(*whole, 2)
    train(*first, 2)
    path = save_checkpoint(tmp_path, TrainSnapshot(2, parts(*first), {}))
    restore_tensors(parts(*second), load_checkpoint(path).tensors, str(path))
    train(*second, 2)
    for part, named in parts(*whole).items():
        for name, value in named.items():
            assert torch.equal(value, parts(*second)[part][name]), name


def test_everything_of_a_snapshot_comes_back(tmp_path):
    back = load_checkpoint(save_checkpoint(tmp_path, snapshot(4, score=0.25)))
    assert (back.step, back.state, back.score) == (4, {"position": 32}, 0.25)
    assert {part: list(named) for part, named in back.tensors.items()} == {"model": ["w"], "rng": ["cpu"]}
    assert torch.equal(back.tensors["model"]["w"], torch.full((3, 5), 4.0))


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
def test_safetensors_itself_reads_what_is_written(tmp_path, dtype):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "odd": torch.randint(0, 2, (7, 3), generator=generator).to(dtype),
        "scalar": torch.ones((), dtype=dtype),
        "empty": torch.zeros((0, 4), dtype=dtype),
        "turned": torch.randint(0, 2, (3, 4, 5), generator=generator).to(dtype).permute(2, 0, 1),
        "bytes": torch.arange(3, dtype=torch.uint8),
        "é/\"'": torch.arange(5),
    }
    read = load_file(save_checkpoint(tmp_path, TrainSnapshot(1, {"part": tensors}, {})) / "part.safetensors")
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value), name


def test_a_part_may_hold_nothing(tmp_path):
    assert load_checkpoint(save_checkpoint(tmp_path, TrainSnapshot(1, {"ema": {}}, {}))).tensors == {
        "ema": {}
    }


def test_every_tensor_is_aligned(tmp_path):
    tensors = {
        "a": torch.zeros(3, dtype=torch.uint8),
        "b": torch.zeros(2),
        "c": torch.zeros(1, dtype=torch.int64),
    }
    data = (
        save_checkpoint(tmp_path, TrainSnapshot(1, {"part": tensors}, {})) / "part.safetensors"
    ).read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    for name, entry in json.loads(data[8 : 8 + length]).items():
        assert entry["data_offsets"][0] % tensors[name].element_size() == 0, name


class Careless(io.FileIO):
    """Writes another last bit than it was given."""

    def write(self, data):
        *rest, last = bytes(data)
        return super().write(bytes([*rest, last ^ 1]))


def test_the_manifest_records_what_was_meant_to_be_written(tmp_path, monkeypatch):
    """A digest taken of the file would bless what went wrong on the way to it."""
    real = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "open", lambda *given, **more: (Careless if given[1:] == ("wb",) else real)(*given, **more)
        )
        path = write(tmp_path, 1)
    with pytest.raises(WeightsError, match="differs from its recorded sha256"):
        verify_manifest(path)


def test_checkpoints_are_listed_in_the_order_of_their_steps(tmp_path):
    for name in ("step-100000000", "step-00000009", "step-00000010", "step-x", "step-00000011.corrupt"):
        (tmp_path / name).mkdir()
    assert names(tmp_path) == ["step-00000009", "step-00000010", "step-100000000"]


def test_a_folder_that_is_not_there_holds_none(tmp_path):
    assert list_checkpoints(tmp_path / "absent") == []
    assert latest_checkpoint(tmp_path / "absent") is None


def test_the_last_to_be_written_is_the_newest_also_after_the_run_went_back(tmp_path):
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


def test_a_step_written_again_leaves_the_older_folder_as_it_is(tmp_path):
    first = write(tmp_path, 7, score=0.1)
    second = write(tmp_path, 7, score=0.2)
    assert (load_checkpoint(first).score, load_checkpoint(second).score) == (0.1, 0.2)


def test_a_damaged_one_is_set_aside_with_a_warning_and_the_one_before_is_taken(tmp_path):
    older, newest = write(tmp_path, 1), write(tmp_path, 2)
    damage(newest)
    with pytest.warns(
        UserWarning, match=r"skipped a corrupt checkpoint: .*sha256.*; it is step-00000002\.corrupt now"
    ):
        assert latest_checkpoint(tmp_path) == older
    assert (tmp_path / "step-00000002.corrupt" / "model.safetensors").is_file()


@pytest.mark.filterwarnings("ignore:skipped a corrupt checkpoint")
def test_a_step_may_be_damaged_twice(tmp_path):
    write(tmp_path, 1)
    for _ in range(2):
        damage(write(tmp_path, 2))
        assert latest_checkpoint(tmp_path) == tmp_path / "step-00000001"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-00000001",
        "step-00000002.corrupt",
        "step-00000002.corrupt-2",
    ]


def test_a_checkpoint_whose_manifest_is_gone_counts_as_damaged(tmp_path):
    (write(tmp_path, 1) / "MANIFEST.json").unlink()
    with pytest.warns(UserWarning, match=r"no MANIFEST\.json"), pytest.raises(WeightsError, match="is valid"):
        latest_checkpoint(tmp_path)


def test_a_bad_sector_counts_as_damage(tmp_path, monkeypatch):
    older, newest = write(tmp_path, 1), write(tmp_path, 2)
    real = checkpoint.sha256

    def read(path):
        if path.parent == newest:
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(checkpoint, "sha256", read)
    with pytest.warns(UserWarning, match="Input/output error"):
        assert latest_checkpoint(tmp_path) == older


def test_a_checkpoint_that_may_not_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = write(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "sha256", refuse)
    with pytest.raises(PermissionError):
        latest_checkpoint(tmp_path)
    assert path.is_dir()


def test_what_cannot_be_renamed_is_passed_over_all_the_same(tmp_path, monkeypatch):
    older, newest = write(tmp_path, 1), write(tmp_path, 2)
    damage(newest)
    monkeypatch.setattr(Path, "rename", refuse_everything)
    with pytest.warns(UserWarning, match="it could not be renamed"):
        assert latest_checkpoint(tmp_path) == older


def refuse_everything(*_arguments, **_options):
    raise OSError(errno.EROFS, "Read-only file system")


def test_reading_verifies_first(tmp_path):
    path = write(tmp_path, 1)
    damage(path)
    with pytest.raises(WeightsError, match="sha256"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_layout_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_checkpoint_files", lambda _snapshot: [("state.json", [b'{"step": 3}'])])
    with pytest.raises(WeightsError, match="lacks 'state': another version of zebra wrote it"):
        load_checkpoint(write(tmp_path, 3))


def test_half_a_checkpoint_of_a_crash_never_counts_and_is_cleared_away(tmp_path):
    (tmp_path / ".partial-step-00000009").mkdir()
    (tmp_path / ".partial-step-00000009" / "model.safetensors").write_text("half")
    assert latest_checkpoint(tmp_path) is None
    write(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_failed_write_says_what_where_and_how_to_mend_it(tmp_path, monkeypatch):
    def full(_path, _pieces):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "_write_file", full)
    pattern = (
        rf"could not write checkpoint {re.escape(str(tmp_path))}/step-00000001: No space left on device "
        r"\(67 bytes needed, [\d,]+ free\)\. Older checkpoints are unchanged\. Free disk space or repair the disk"
    )
    with pytest.raises(CheckpointError, match=pattern):
        write(tmp_path, 1)


def test_only_the_newest_are_kept(tmp_path):
    write(tmp_path, 1, 2, 3, 4)
    prune_checkpoints(tmp_path, num_to_keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_the_best_is_kept_beside_the_newest(tmp_path):
    for step, score in enumerate((float("nan"), 0.9, 0.1, None, 0.3, None)):
        write(tmp_path, step, score=score)
    prune_checkpoints(tmp_path, num_to_keep=1)
    assert names(tmp_path) == ["step-00000001", "step-00000005"]


def test_of_equally_good_ones_the_newest_is_kept(tmp_path):
    write(tmp_path, 1, 2, score=0.5)
    write(tmp_path, 3, score=0.4)
    prune_checkpoints(tmp_path, num_to_keep=1)
    assert names(tmp_path) == ["step-00000002", "step-00000003"]


def test_the_best_that_is_damaged_is_best_no_more(tmp_path):
    write(tmp_path, 1, score=0.5)
    damage(write(tmp_path, 2, score=0.9))
    write(tmp_path, 3, score=0.1)
    with pytest.warns(UserWarning, match="skipped a corrupt checkpoint"):
        prune_checkpoints(tmp_path, num_to_keep=1)
    assert names(tmp_path) == ["step-00000001", "step-00000003"]


def test_damaged_ones_do_not_count_among_those_kept(tmp_path):
    write(tmp_path, 1, 2)
    damage(write(tmp_path, 3))
    with pytest.warns(UserWarning, match="skipped a corrupt checkpoint"):
        prune_checkpoints(tmp_path, num_to_keep=2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_what_cannot_be_removed_costs_a_warning_and_the_others_go(tmp_path, monkeypatch):
    write(tmp_path, 1, 2, 3)
    real = shutil.rmtree

    def stubborn(path, **options):
        if "step-00000001" in str(path):
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(path, **options)

    monkeypatch.setattr(shutil, "rmtree", stubborn)
    with pytest.warns(UserWarning, match=r"could not remove .*step-00000001, which is no longer needed"):
        prune_checkpoints(tmp_path, num_to_keep=1)
    assert names(tmp_path) == ["step-00000003"]


def test_what_could_not_be_removed_is_tried_again(tmp_path, monkeypatch):
    write(tmp_path, 1, 2)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="could not remove"):
        patch.setattr(shutil, "rmtree", refuse_everything)
        prune_checkpoints(tmp_path, num_to_keep=1)
    write(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_a_file_is_read_again_only_if_it_changed(tmp_path):
    reads = []
    digest = memoize_digest(lambda path: (reads.append(path), checkpoint.sha256(path))[1])
    path = write(tmp_path, 1)
    for _ in range(2):
        verify_manifest(path, digest)
    assert len(reads) == 3
    with (path / "state.json").open("a") as file:
        file.write(" ")
    digest(path / "state.json")
    assert len(reads) == 4
