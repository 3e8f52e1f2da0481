"""Fused batch norms give the vectors of fp32 within rounding and leave the model as it is."""

import pytest
import torch
from torch import nn

import zebra
from zebra.models.image.resnet import Bottleneck
from zebra.pretrained import autotune

from ...tiny_model import build_tiny_model
from .bundles import random_images


@pytest.fixture
def resnet():
    """A tiny ResNet whose batch norms are not the identity."""
    bundle = build_tiny_model("resnet")
    generator = torch.Generator().manual_seed(0)
    for module in bundle.model.visual.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1, generator=generator)
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(std=0.1, generator=generator)
    return bundle


def test_fused_batch_norms_give_the_vectors_and_features_of_fp32(resnet):
    fused, images = resnet.fuse_batch_norms(), random_images(3)
    assert fused.has_fused_batch_norms
    assert not resnet.has_fused_batch_norms
    vectors = fused.encode_images(images)
    torch.testing.assert_close(vectors, resnet.encode_images(images), atol=1e-6, rtol=0)
    assert not torch.equal(vectors, resnet.encode_images(images))
    features = [bundle.encode_images(images, projected=False) for bundle in (fused, resnet)]
    torch.testing.assert_close(*features, atol=1e-5, rtol=1e-5)


def test_a_model_with_fused_batch_norms_is_saved_as_it_was(resnet, tmp_path):
    resnet.fuse_batch_norms().save(tmp_path / "model")
    assert torch.equal(
        zebra.load(tmp_path / "model").encode_images(random_images(2)), resnet.encode_images(random_images(2))
    )


def test_a_smaller_precision_fuses_every_batch_norm(resnet):
    tower = resnet.to_precision("bf16").model.visual
    assert any(isinstance(module, Bottleneck) for module in tower.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in tower.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in resnet.model.visual.modules())


@pytest.mark.parametrize("text_precision", ["fp32", "bf16", "int8"])
def test_batch_norms_are_fused_beside_texts_in_any_precision(resnet, text_precision):
    cast = resnet.to_precision("fp32", text_precision)
    fused = cast.fuse_batch_norms()
    assert fused.has_fused_batch_norms
    images = random_images(2)
    torch.testing.assert_close(fused.encode_images(images), resnet.encode_images(images), atol=1e-6, rtol=0)
    assert torch.equal(fused.encode_texts(["two dogs"]), cast.encode_texts(["two dogs"]))


def test_fusing_leaves_the_weights_trainable(resnet):
    resnet.fuse_batch_norms()
    assert all(weight.requires_grad for weight in resnet.model.parameters())


def test_a_tower_without_batch_norms_is_left_alone():
    bundle = build_tiny_model()
    assert bundle.fuse_batch_norms() is bundle


def test_auto_fuses_batch_norms_beside_int8_texts(resnet, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    picked = {"image": "fp32", "text": "int8"}
    monkeypatch.setattr(autotune, "pick_precision", lambda bundle, tower: picked[tower])
    resnet.save(tmp_path / "model")
    clip = zebra.load(tmp_path / "model", precision="auto")
    assert (clip.precision, clip.text_precision, clip.has_fused_batch_norms) == ("fp32", "int8", True)


def test_auto_fuses_batch_norms_and_verifies_the_golden_vectors_again(resnet, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(autotune, "candidate_precisions", lambda bundle, tower: [])
    resnet.save(tmp_path / "model")
    seen = []
    verify = zebra.pretrained.load.verify_golden
    monkeypatch.setattr(
        "zebra.pretrained.load.verify_golden", lambda bundle, path: seen.append(bundle) or verify(bundle, path)
    )
    clip = zebra.load(tmp_path / "model", precision="auto")
    assert (clip.precision, clip.has_fused_batch_norms) == ("fp32", True)
    assert [bundle.has_fused_batch_norms for bundle in seen] == [False, True]
    assert not zebra.load(tmp_path / "model").has_fused_batch_norms
