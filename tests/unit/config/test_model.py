"""Sizes of models are bounded before anything is built from them."""

from dataclasses import replace

import pytest
import torch

from zebra.config.model import ModelConfig
from zebra.config.presets import get_preset
from zebra.config.structure import structure, unstructure
from zebra.config.transformer import MAX_IMAGE_SIZE, MAX_TOKENS
from zebra.errors import ConfigError
from zebra.models import CLIP

SIGLIP = unstructure(get_preset("tiny-vit")) | {
    "embed_dim": 64,
    "vision": {"kind": "siglip", "width": 64, "layers": 1, "heads": 1, "patch_size": 16},
    "text": {"kind": "siglip", "width": 64, "layers": 1, "heads": 1},
}
MODELS = {name: unstructure(get_preset(name)) for name in ("tiny-vit", "tiny-resnet")} | {"siglip": SIGLIP}


def changed(raw, path, value):
    """Return a copy of nested mappings with another value at a dotted path."""
    first, _, rest = path.partition(".")
    return raw | {first: changed(raw[first], rest, value) if rest else value}


@pytest.mark.parametrize(
    ("model", "path", "value", "message"),
    [
        ("tiny-vit", "vision.width", 10**9, "model.vision.width is 1000000000; it must be between 1 and 16,384"),
        ("tiny-vit", "vision.layers", 10**7, "model.vision.layers is 10000000; it must be between 1 and 256"),
        ("tiny-vit", "vision.layers", 0, "model.vision.layers is 0; it must be between 1"),
        ("tiny-vit", "vision.mlp_width", 10**9, "model.vision.mlp_width is 1000000000"),
        ("tiny-vit", "vision.patch_size", 10**9, "vision.patch_size"),
        ("tiny-vit", "vision.patch_size", 0, "vision.patch_size"),
        ("tiny-vit", "vision.heads", -1, "heads"),
        ("tiny-vit", "vision.norm_eps", -1.0, "model.vision.norm_eps is -1.0; it must be between 0 and 1"),
        ("tiny-vit", "text.width", 10**12, "model.text.width is 1000000000000; it must be between 1 and 16,384"),
        ("tiny-vit", "text.layers", 10**7, "model.text.layers is 10000000"),
        ("tiny-vit", "text.vocab_size", 10**10, "model.text.vocab_size is 10000000000"),
        ("tiny-vit", "text.vocab_size", 0, "model.text.vocab_size is 0"),
        ("tiny-vit", "text.context_length", 10**9, "model.text.context_length is 1000000000"),
        ("tiny-vit", "embed_dim", 1 << 63, f"model.embed_dim is {1 << 63}; it must be between 1 and 16,384"),
        ("tiny-vit", "embed_dim", -1, "model.embed_dim is -1"),
        ("tiny-vit", "image_size", 10**9, "model.image_size is 1000000000; it must be between 1 and 8,192"),
        ("tiny-resnet", "image_size", 10**9, "model.image_size"),
        ("tiny-resnet", "vision.width", 10**9, "model.vision.width is 1000000000; it must be between 1 and 512"),
        ("tiny-resnet", "vision.layers", [10**6, 1, 1, 1], r"model.vision.layers\[0\] is 1000000"),
        ("tiny-resnet", "vision.layers", [1, 1, 1, 0], r"model.vision.layers\[3\] is 0"),
        ("siglip", "vision.patch_size", 0, "model.vision.patch_size is 0; it must be between 1 and 8,192"),
        ("siglip", "text.context_length", 0, "model.text.context_length is 0"),
        ("siglip", "text.vocab_size", 1 << 40, "model.text.vocab_size"),
        ("tiny-vit", "vision.width", "192", "vision.width must be an integer, not '192'"),
    ],
)  # fmt: skip
def test_a_size_out_of_range_is_refused_with_its_name_its_value_and_the_limit(model, path, value, message):
    structure(ModelConfig, MODELS[model])  # valid before the change
    with pytest.raises(ConfigError, match=message):
        structure(ModelConfig, changed(MODELS[model], path, value))


@pytest.mark.parametrize("model", ["tiny-vit", "siglip"])
def test_the_number_of_patches_is_bounded(model):
    raw = changed(MODELS[model] | {"image_size": 4096}, "vision.patch_size", 1)
    with pytest.raises(ConfigError, match=f"number of patches is 16777216; it must be between 1 and {MAX_TOKENS:,}"):
        structure(ModelConfig, raw)


def test_layers_and_widths_within_their_limits_may_still_be_too_many_weights():
    vision = get_preset("ViT-B/32").vision
    with pytest.raises(ConfigError, match="256 layers of width 4096 and mlp_width 131072 have 292,057,776,128 weights"):
        replace(vision, layers=256, width=4096, heads=1, mlp_width=1 << 17)
    with pytest.raises(ConfigError, match="limit is 100,000,000,000"):
        replace(vision, layers=256, width=1 << 14, heads=1)


def test_the_largest_sizes_describe_tensors_without_overflow():
    raw = changed(changed(MODELS["tiny-resnet"], "vision.width", 512), "vision.heads", 1) | {
        "image_size": MAX_IMAGE_SIZE
    }
    raw = changed(raw, "text.vocab_size", 1 << 22) | {"embed_dim": 1 << 14}
    with torch.device("meta"):
        model = CLIP(structure(ModelConfig, raw))
    assert sum(parameter.numel() for parameter in model.parameters()) < 1 << 40
