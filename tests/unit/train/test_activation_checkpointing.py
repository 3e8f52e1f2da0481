"""Activation checkpointing, compiled blocks and patch dropout."""

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
def test_activation_checkpointing_changes_no_metric_gradient_weight_or_statistic(name, chunk_size):
    plain = ranks.steps(SINGLE_PROCESS, name, chunk_size=chunk_size)
    checkpointed = ranks.steps(SINGLE_PROCESS, name, chunk_size=chunk_size, checkpointing=True)
    torch.testing.assert_close(checkpointed, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_activation_checkpointing_stores_fewer_activations(name):
    config = ranks.MODELS[name]
    images = torch.randn(6, 3, config.image_size, config.image_size)
    stored_bytes = []
    for checkpointing in (False, True):
        model = CLIP(config).train()
        if checkpointing:
            apply_activation_checkpointing(model)
        sizes = []

        def pack(tensor, sizes=sizes):
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.encode_images(images)
        stored_bytes.append(sum(sizes))
    assert stored_bytes[1] < 0.6 * stored_bytes[0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ranks.MODELS)
def test_compiled_blocks_give_the_same_embeddings_and_gradients(name):
    torch.manual_seed(0)
    model = CLIP(ranks.MODELS[name]).train()
    size = model.config.image_size
    batches = [(torch.randn(n, 3, size, size), torch.tensor([[298, 5, 9 + n, 299]] * n)) for n in (4, 4, 6, 3)]
    results = []
    for compiled in (False, True):
        if compiled:
            compile_blocks(model)
        for images, tokens in batches:
            model.zero_grad()
            image, text, scale = model(images, tokens)
            (scale * image * text).sum().backward()
            gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            results.append((image.detach(), text.detach(), gradients))
    for plain, compiled_result in zip(results[: len(batches)], results[len(batches) :], strict=True):
        torch.testing.assert_close(compiled_result, plain, rtol=1e-3, atol=1e-4)


def config(**changes):
    return TrainConfig(
        data="d", out="o", steps=1, model=get_preset("tiny-vit"), batch_size=8, patch_dropout=0.5, **changes
    )


def test_patch_dropout_keeps_half_of_the_patches_at_random_and_depends_only_on_the_step():
    train_config = config()
    patches = (train_config.model.image_size // train_config.model.vision.patch_size) ** 2
    sample_patches = build_patch_dropout(train_config, SINGLE_PROCESS, torch.device("cpu"))
    first, second = sample_patches(0), sample_patches(1)
    assert first.shape == (8, patches // 2)
    assert all(len(set(row)) == len(row) and row == sorted(row) for row in first.tolist())
    assert first.min() >= 0 and first.max() < patches
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    assert torch.equal(build_patch_dropout(train_config, SINGLE_PROCESS, torch.device("cpu"))(1), second)


def test_processes_keep_the_patches_of_their_slice_of_the_batch():
    full_batch = build_patch_dropout(config(), SINGLE_PROCESS, torch.device("cpu"))(3)
    slices = [build_patch_dropout(config(), ProcessGroup(rank, 4), torch.device("cpu"))(3) for rank in range(4)]
    assert torch.equal(torch.cat(slices), full_batch)


@pytest.mark.parametrize("name", ["tiny-vit"])
def test_keeping_all_patches_changes_nothing_and_dropped_patches_have_no_effect(name):
    torch.manual_seed(0)
    model = CLIP(get_preset(name)).eval()
    size, patch = model.config.image_size, model.config.vision.patch_size
    images = torch.randn(2, 3, size, size)
    patches_per_side = size // patch
    all_patches = torch.arange(patches_per_side * patches_per_side).expand(2, -1)
    torch.testing.assert_close(model.encode_images(images, all_patches), model.encode_images(images))
    ids_keep = all_patches[:, 1:]
    other = images.clone()
    other[:, :, :patch, :patch] = 9.0  # the first patch
    torch.testing.assert_close(model.encode_images(images, ids_keep), model.encode_images(other, ids_keep))


def test_patch_dropout_is_refused_without_patches_and_if_it_drops_all():
    with pytest.raises(ConfigError, match="a resnet tower"):
        TrainConfig(data="d", out="o", steps=1, model=get_preset("tiny-resnet"), patch_dropout=0.5)
    with pytest.raises(ConfigError, match="must be from 0 to below 1"):
        replace(config(), patch_dropout=1.0)
