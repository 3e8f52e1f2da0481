"""Blocks that pass twice, compiled blocks, patches that are not seen."""

import shutil
from dataclasses import replace

import pytest
import torch

from zebra.config.presets import get_preset
from zebra.config.train import TrainConfig
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import ConfigError
from zebra.models import CLIP
from zebra.train.activation_checkpointing import apply_activation_checkpointing
from zebra.train.compilation import compile_blocks
from zebra.train.patch_dropout import build_patch_dropout

from . import ranks


@pytest.mark.parametrize("name", ranks.MODELS)
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_blocks_that_pass_twice_change_neither_figures_nor_gradients_nor_weights_nor_statistics(
    name, chunk_size
):
    plain = ranks.steps(SINGLE_PROCESS, name, chunk_size=chunk_size)
    twice = ranks.steps(SINGLE_PROCESS, name, chunk_size=chunk_size, forget=True)
    torch.testing.assert_close(twice, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_blocks_that_pass_twice_keep_less_for_their_gradients(name):
    config = ranks.MODELS[name]
    images = torch.randn(6, 3, config.image_size, config.image_size)
    kept = []
    for forget in (False, True):
        model = CLIP(config).train()
        if forget:
            apply_activation_checkpointing(model)
        sizes = []

        def pack(tensor, sizes=sizes):
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.encode_images(images)
        kept.append(sum(sizes))
    assert kept[1] < 0.6 * kept[0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ranks.MODELS)
def test_compiled_blocks_give_the_same_vectors_and_gradients(name):
    torch.manual_seed(0)
    model = CLIP(ranks.MODELS[name]).train()
    size = model.config.image_size
    batches = [
        (torch.randn(n, 3, size, size), torch.tensor([[298, 5, 9 + n, 299]] * n)) for n in (4, 4, 6, 3)
    ]
    found = []
    for compiled in (False, True):
        if compiled:
            compile_blocks(model)
        for images, tokens in batches:
            model.zero_grad()
            image, text, scale = model(images, tokens)
            (scale * image * text).sum().backward()
            gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            found.append((image.detach(), text.detach(), gradients))
    for plain, fast in zip(found[: len(batches)], found[len(batches) :], strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-4)


def config(**changes):
    return TrainConfig(
        data="d", out="o", steps=1, model=get_preset("tiny-vit"), batch_size=8, patch_dropout=0.5, **changes
    )


def test_dropped_patches_are_half_of_them_others_in_every_step_and_the_same_after_an_interruption():
    told = config()
    patches = (told.model.image_size // told.model.vision.patch_size) ** 2
    seen = build_patch_dropout(told, SINGLE_PROCESS, torch.device("cpu"))
    first, second = seen(0), seen(1)
    assert first.shape == (8, patches // 2)
    assert all(len(set(row)) == len(row) and row == sorted(row) for row in first.tolist())
    assert first.min() >= 0 and first.max() < patches
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    assert torch.equal(build_patch_dropout(told, SINGLE_PROCESS, torch.device("cpu"))(1), second)


def test_processes_see_their_share_of_the_patches_that_one_would_see():
    whole = build_patch_dropout(config(), SINGLE_PROCESS, torch.device("cpu"))(3)
    shares = [
        build_patch_dropout(config(), ProcessGroup(rank, 4), torch.device("cpu"))(3) for rank in range(4)
    ]
    assert torch.equal(torch.cat(shares), whole)


@pytest.mark.parametrize("name", ["tiny-vit"])
def test_a_tower_that_sees_all_patches_in_order_is_the_tower_itself_and_unseen_ones_do_not_matter(name):
    torch.manual_seed(0)
    model = CLIP(get_preset(name)).eval()
    size, patch = model.config.image_size, model.config.vision.patch_size
    images = torch.randn(2, 3, size, size)
    side = size // patch
    everything = torch.arange(side * side).expand(2, -1)
    torch.testing.assert_close(model.encode_images(images, everything), model.encode_images(images))
    seen = everything[:, 1:]
    other = images.clone()
    other[:, :, :patch, :patch] = 9.0  # the first patch
    torch.testing.assert_close(model.encode_images(images, seen), model.encode_images(other, seen))


def test_patch_dropout_is_refused_where_there_are_no_patches_and_where_it_leaves_none():
    with pytest.raises(ConfigError, match="ResNet"):
        TrainConfig(data="d", out="o", steps=1, model=get_preset("tiny-resnet"), patch_dropout=0.5)
    with pytest.raises(ConfigError, match="must be from 0 to below 1"):
        replace(config(), patch_dropout=1.0)
