"""Checkpoints: exact, verified, and never silently fallen short of."""

import json

import pytest
import torch

from zebra.config.train import OptimizerConfig
from zebra.errors import WeightsError
from zebra.models import CLIP
from zebra.train.checkpoint import list_checkpoints, load_newest, save_checkpoint
from zebra.train.optimizer import adamw
from zebra.train.step import train_step

from .test_step import CONFIG


def fresh(seed=0):
    torch.manual_seed(seed)
    model = CLIP(CONFIG)
    return model, adamw(model, OptimizerConfig())


def train(model, optimizer, steps, start=0):
    for number in range(start, start + steps):
        generator = torch.Generator().manual_seed(number)
        tokens = torch.randint(0, 290, (4, 8), generator=generator)
        tokens[:, 7] = 299
        images = torch.randn(4, 3, 32, 32, generator=generator)
        train_step(model, optimizer, images, tokens, lr=1e-3, clip_norm=1.0, precision="fp32")


def test_three_steps_and_three_more_equal_six_bit_for_bit(tmp_path):
    whole, optimizer = fresh()
    train(whole, optimizer, 6)
    first, optimizer = fresh()
    train(first, optimizer, 3)
    save_checkpoint(tmp_path, first, optimizer, 3, {}, keep=2)
    second, optimizer = fresh(seed=9)
    assert load_newest(tmp_path, second, optimizer)["step"] == 3
    train(second, optimizer, 3, start=3)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_only_the_newest_are_kept(tmp_path):
    model, optimizer = fresh()
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, model, optimizer, step, {}, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken(tmp_path, file):
    model, optimizer = fresh()
    save_checkpoint(tmp_path, model, optimizer, 1, {}, keep=2)
    damaged = save_checkpoint(tmp_path, model, optimizer, 2, {}, keep=2) / file
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    assert load_newest(tmp_path, model, optimizer)["step"] == 1
    assert (tmp_path / "step-00000002.damaged").is_dir()


def test_with_every_checkpoint_damaged_nothing_starts_from_scratch_in_silence(tmp_path):
    model, optimizer = fresh()
    path = save_checkpoint(tmp_path, model, optimizer, 1, {}, keep=2)
    (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"no checkpoint in .* is whole"):
        load_newest(tmp_path, model, optimizer)


def test_a_folder_without_checkpoints_has_no_state(tmp_path):
    assert load_newest(tmp_path, *fresh()) is None


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path):
    model, optimizer = fresh()
    train(model, optimizer, 1)
    path = save_checkpoint(tmp_path, model, optimizer, 1, {"x": 1}, keep=1)
    assert sorted(p.suffix for p in path.iterdir()) == [".json", ".json", ".safetensors", ".safetensors"]
    assert json.loads((path / "state.json").read_text())["x"] == 1
