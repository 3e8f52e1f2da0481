"""Snapshots: a complete copy of the train state, restored completely or not at all."""

import random

import numpy as np
import pytest
import torch

from zebra.config.train import OptimizerConfig
from zebra.errors import WeightsError
from zebra.models import CLIP
from zebra.train.optimizer import build_optimizer
from zebra.train.snapshot import (
    TrainSnapshot,
    copy_to_cpu,
    get_rng_state,
    optimizer_tensors,
    restore_tensors,
    set_rng_state,
)
from zebra.train.step import train_step

from .test_step import CONFIG


def run(seed=0):
    torch.manual_seed(seed)
    model = CLIP(CONFIG)
    return model, build_optimizer(model, OptimizerConfig())


def train(model, optimizer, steps):
    generator = torch.Generator().manual_seed(7)
    for _ in range(steps):
        tokens = torch.randint(0, 290, (4, 8), generator=generator)
        tokens[:, 7] = 299
        images = torch.randn(4, 3, 32, 32, generator=generator)
        train_step(model, optimizer, images, tokens, lr=1e-3, grad_clip_norm=1.0, precision="fp32")


def parts(model, optimizer):
    return {"model": model.state_dict(), "optimizer": optimizer_tensors(model, optimizer)}


def clone_all(tensors):
    return {part: {name: value.clone() for name, value in named.items()} for part, named in tensors.items()}


def live(value=1.0, state=None):
    return TrainSnapshot(3, {"model": {"w": torch.full((4, 2), value)}}, state or {}, score=0.5)


def test_a_copy_does_not_change_with_the_run():
    snapshot = live(1.0, {"list": [1]})
    copy = copy_to_cpu(snapshot)
    snapshot.tensors["model"]["w"].fill_(9)
    snapshot.state["list"].append(2)
    assert torch.equal(copy.tensors["model"]["w"], torch.ones(4, 2))
    assert copy.state == {"list": [1]}
    assert (copy.step, copy.score) == (3, 0.5)


def test_buffers_are_reused():
    first = copy_to_cpu(live(1.0))
    address = first.tensors["model"]["w"].data_ptr()
    second = copy_to_cpu(live(2.0), buffers=first)
    assert second.tensors["model"]["w"].data_ptr() == address
    assert torch.equal(second.tensors["model"]["w"], torch.full((4, 2), 2.0))


@pytest.mark.parametrize("other", [torch.zeros(4, 3), torch.zeros(4, 2, dtype=torch.float16)], ids=["shape", "dtype"])
def test_buffers_of_another_shape_or_dtype_are_not_reused(other):
    copy = copy_to_cpu(live(1.0), buffers=TrainSnapshot(2, {"model": {"w": other}}, {}))
    assert torch.equal(copy.tensors["model"]["w"], torch.ones(4, 2))


def test_a_copy_is_contiguous_whatever_the_memory_layout():
    images = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    copy = copy_to_cpu(TrainSnapshot(1, {"model": {"w": images}}, {})).tensors["model"]["w"]
    assert torch.equal(copy, images)
    assert copy.is_contiguous()


def test_saved_tensors_are_restored():
    model, optimizer = run()
    train(model, optimizer, 2)
    saved = clone_all(parts(model, optimizer))
    other, other_optimizer = run(seed=1)
    restore_tensors(parts(other, other_optimizer), saved, "here")
    for part, named in parts(other, other_optimizer).items():
        for name, value in named.items():
            assert torch.equal(value, saved[part][name]), name


def test_restored_moments_have_the_memory_layout_of_their_parameters():
    """The fused update reads both in parallel."""
    model, optimizer = run()
    saved = copy_to_cpu(TrainSnapshot(0, parts(model, optimizer), {})).tensors
    restore_tensors(parts(model, optimizer), saved, "here")
    strides = {name: parameter.stride() for name, parameter in model.named_parameters()}
    assert strides["visual.conv2.weight"][1] == 1  # channels last
    for name, value in optimizer_tensors(model, optimizer).items():
        parameter, moment = name.split("/")
        assert moment == "step" or value.stride() == strides[parameter], name


def test_a_new_optimizer_has_the_tensors_of_one_that_has_run():
    model, optimizer = run()
    fresh = {name: (value.shape, value.dtype) for name, value in optimizer_tensors(*run()).items()}
    train(model, optimizer, 1)
    assert fresh == {name: (value.shape, value.dtype) for name, value in optimizer_tensors(model, optimizer).items()}


def test_creating_moments_early_changes_no_result():
    first, second = run(), run()
    optimizer_tensors(*second)
    train(*first, 2)
    train(*second, 2)
    for name, value in parts(*first)["model"].items():
        assert torch.equal(value, second[0].state_dict()[name]), name


def test_every_missing_tensor_is_named():
    complete = parts(*run())
    for part, named in complete.items():
        for name in named:
            saved = {**complete, part: {other: value for other, value in named.items() if other != name}}
            with pytest.raises(WeightsError, match=f"^here lacks {part}/{name}, which this run needs"):
                restore_tensors(complete, saved, "here")


def test_a_missing_part_is_named():
    complete = parts(*run())
    with pytest.raises(WeightsError, match=r"lacks optimizer/.* and \d+ more, which this run needs"):
        restore_tensors(complete, {"model": complete["model"]}, "here")


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"w": torch.ones(4, 2), "x": torch.ones(1)}, "holds model/x, which this run does not have"),
        ({"w": torch.ones(4, 3)}, r"model/w is float32 \[4, 3\], but this run has float32 \[4, 2\]"),
        ({"w": torch.ones(4, 2, dtype=torch.float64)}, r"model/w is float64 \[4, 2\], but this run has float32"),
    ],
    ids=["unexpected", "shape", "dtype"],
)
def test_a_mismatch_is_named(saved, message):
    with pytest.raises(WeightsError, match=message):
        restore_tensors(live().tensors, {"model": saved}, "here")


def test_a_mismatch_leaves_all_tensors_unchanged():
    live_tensors = {"model": {"a": torch.zeros(2), "b": torch.zeros(2)}}
    with pytest.raises(WeightsError):
        restore_tensors(live_tensors, {"model": {"a": torch.ones(2), "b": torch.ones(3)}}, "here")
    assert torch.equal(live_tensors["model"]["a"], torch.zeros(2))


def draw():
    """Draw one number from every generator; Gaussians are generated in pairs, and the second one is buffered."""
    return (torch.rand(1).item(), random.gauss(0, 1), random.random(), np.random.standard_normal(), np.random.rand())


def test_every_generator_continues_where_it_was():
    draw()  # leaves a buffered Gaussian in Python's and in NumPy's generator
    tensors, state = get_rng_state()
    copy = copy_to_cpu(TrainSnapshot(0, {"rng": tensors}, state))  # converts to JSON, as on disk
    expected = draw()
    draw()
    set_rng_state(copy.tensors["rng"], copy.state, "here")
    assert draw() == expected


def test_a_missing_state_of_torchs_generator_is_named():
    _, state = get_rng_state()
    with pytest.raises(WeightsError, match="here lacks rng/cpu"):
        set_rng_state({}, state, "here")


@pytest.mark.parametrize("name", ["python", "numpy"])
def test_a_missing_state_of_another_generator_is_named(name):
    tensors, state = get_rng_state()
    del state[name]
    with pytest.raises(WeightsError, match=f"here lacks the state of {name}'s generator"):
        set_rng_state(tensors, state, "here")


def test_a_missing_device_is_named():
    tensors, state = get_rng_state()
    with pytest.raises(WeightsError, match="holds rng/cuda:9, which this run does not have"):
        set_rng_state({**tensors, "cuda:9": torch.zeros(16, dtype=torch.uint8)}, state, "here")
