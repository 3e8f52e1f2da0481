"""Counted operations agree with PyTorch's counter and with published numbers."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.presets import get_preset
from zebra.config.text_towers import TextConfig
from zebra.losses import info_nce
from zebra.models import CLIP

PUBLISHED = {
    # GFLOP of one image and of one text of 77 tokens, from open_clip's docs/model_profile.csv
    "RN50": (12.22, 5.96),
    "RN101": (19.54, 5.96),
    "RN50x4": (42.56, 9.27),
    "ViT-B/32": (8.82, 5.96),
    "ViT-B/16": (35.13, 5.96),
    "ViT-L/14": (162.03, 13.3),
}
TEXT = TextConfig(width=64, layers=3, heads=1, vocab_size=100, context_length=20)
VISIONS = (
    VisionTransformerConfig(width=64, layers=3, heads=1, patch_size=16),
    ResNetConfig(width=8, layers=(2, 1, 3, 1), heads=4),
)


@pytest.fixture
def flops(script):
    return script("flops")


def count_with_torch(call, *arguments):
    """Return PyTorch's count, with the math implementation of attention, which it can count on any device."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        call(*arguments)
    return counter.get_total_flops()


def build_model(vision):
    return CLIP(ModelConfig(embed_dim=32, image_size=64, vision=vision, text=TEXT))


@pytest.mark.parametrize("vision", VISIONS, ids=lambda vision: vision.kind)
def test_an_image_takes_as_many_operations_as_torch_counts(flops, vision):
    clip = build_model(vision)
    assert flops.image_flops(clip.config, 3) == count_with_torch(clip.visual, torch.zeros(3, 3, 64, 64))


def test_packed_texts_take_as_many_operations_as_torch_counts(flops, script):
    clip = build_model(VISIONS[0])
    tokens = script("step").captions(40, TEXT, torch.Generator().manual_seed(0))
    S, Q, K = script("train_gpu").packed_shape(tokens)
    layout = flops.Layout(S * Q, S * Q * K, 40)
    assert flops.text_flops(clip.config, layout, 40) == count_with_torch(clip.text, tokens)


def test_the_loss_takes_as_many_operations_as_torch_counts(flops):
    vectors = torch.nn.functional.normalize(torch.randn(24, 16), dim=1)
    assert flops.loss_flops(24, 16) == count_with_torch(info_nce, vectors, vectors, 10.0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_towers_with_all_outputs_take_as_many_operations_as_published_by_open_clip(flops, name):
    image, text = PUBLISHED[name]
    config = get_preset(name)
    assert flops.image_flops(config, all_outputs=True) / 1e9 == pytest.approx(image, rel=0.01)
    assert flops.text_flops(config, flops.padded(1, 77), 1) / 1e9 == pytest.approx(text, rel=0.01)


@pytest.mark.parametrize("name", ["RN50", "ViT-B/32"])
def test_computing_only_pooled_outputs_takes_fewer_operations(flops, name):
    assert flops.image_flops(get_preset(name)) < flops.image_flops(get_preset(name), all_outputs=True)
