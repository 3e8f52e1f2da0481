"""Another image size changes the positional embeddings only."""

from dataclasses import replace

import pytest
import torch

from zebra.config.image_towers import ResNetConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.errors import ConfigError, WeightsError
from zebra.models import CLIP
from zebra.pretrained.pos_embed import resize_pos_embed

TEXT = TextConfig(width=32, layers=1, heads=1, vocab_size=60, context_length=16)
TOWERS = {
    "vit": VisionTransformerConfig(width=32, layers=1, heads=1, patch_size=16),
    "resnet": ResNetConfig(width=2, layers=(1, 1, 1, 1), heads=2),
    "siglip": SiglipVisionConfig(width=32, layers=1, heads=1, patch_size=16),
}
NAMES = {
    "vit": "visual.positional_embedding",
    "resnet": "visual.attnpool.positional_embedding",
    "siglip": "visual.positional_embedding",
}


def make_tensors(kind="vit", image_size=64):
    torch.manual_seed(0)
    config = ModelConfig(embed_dim=32, image_size=image_size, vision=TOWERS[kind], text=TEXT)
    return {name.removeprefix("text."): value for name, value in CLIP(config).state_dict().items()}, config


def build(tensors, config):
    model = CLIP(config).eval()
    model.load_state_dict(
        {name: tensors[name if name in tensors else name.removeprefix("text.")] for name in model.state_dict()}
    )
    return model


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("size", [32, 96])
def test_a_model_accepts_images_of_the_new_size(kind, size):
    tensors, config = resize_pos_embed(*make_tensors(kind), size)
    assert config.image_size == size
    assert build(tensors, config).encode_images(torch.randn(2, 3, size, size)).shape == (2, 32)


@pytest.mark.parametrize("kind", TOWERS)
def test_only_the_positions_change(kind):
    before, config = make_tensors(kind)
    copies = {name: value.clone() for name, value in before.items()}
    after, _ = resize_pos_embed(before, config, 96)
    assert after.keys() == before.keys()
    assert [name for name in after if not torch.equal(after[name], copies[name])] == [NAMES[kind]]
    assert all(torch.equal(before[name], copies[name]) for name in copies)


@pytest.mark.parametrize(("kind", "num_extra"), [("vit", 1), ("resnet", 1), ("siglip", 0)])
def test_a_smooth_grid_keeps_its_orientation(kind, num_extra):
    """A plane that rises by 1 per row and 10 per column keeps its orientation."""
    tensors, config = make_tensors(kind, image_size=128)
    side = 128 // (32 if kind == "resnet" else 16)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    width = tensors[NAMES[kind]].shape[1]
    plane = (y + 10 * x).flatten()[:, None].expand(-1, width).float()
    first = torch.full((num_extra, width), -7.0)
    after = resize_pos_embed(tensors | {NAMES[kind]: torch.cat([first, plane])}, config, 256)[0][NAMES[kind]]
    assert torch.equal(after[:num_extra], first)
    grid = after[num_extra:, 0].view(2 * side, 2 * side)
    middle = slice(4, -4)  # the interpolation repeats the edges
    across = torch.diff(grid, dim=1)[middle, middle]
    down = torch.diff(grid, dim=0)[middle, middle]
    assert across.allclose(torch.full_like(across, 5.0), atol=1.0)
    assert down.allclose(torch.full_like(down, 0.5), atol=0.1)


def test_half_precision_positions_are_interpolated_in_fp32_and_cast_back():
    tensors, config = make_tensors()
    exact = resize_pos_embed(tensors, config, 96)[0][NAMES["vit"]]
    half = {name: value.half() for name, value in tensors.items()}
    widened = {name: value.float() for name, value in half.items()}
    after = resize_pos_embed(half, config, 96)[0][NAMES["vit"]]
    assert after.dtype == torch.float16
    assert torch.equal(after, resize_pos_embed(widened, config, 96)[0][NAMES["vit"]].half())
    assert (after.float() - exact).abs().max() < 1e-3


def test_a_size_with_the_same_grid_keeps_every_bit():
    """SigLIP ignores pixels of incomplete patches: 70 pixels are 4 patches of 16."""
    tensors, config = make_tensors("siglip")
    after, resized = resize_pos_embed(tensors, config, 70)
    assert torch.equal(after[NAMES["siglip"]], tensors[NAMES["siglip"]])
    assert resized.image_size == 70


@pytest.mark.parametrize(("kind", "size"), [("vit", 60), ("resnet", 80), ("siglip", 8)])
def test_an_unsupported_size_is_refused(kind, size):
    with pytest.raises(ConfigError, match=rf"image_size \(?{size}"):
        resize_pos_embed(*make_tensors(kind), size)


def test_weights_of_another_config_are_refused():
    tensors, config = make_tensors()
    other = replace(config, image_size=128)
    with pytest.raises(WeightsError, match=r"positional_embedding has shape .* positions"):
        resize_pos_embed(tensors, other, 16)
    with pytest.raises(WeightsError, match="lack the tensor"):
        resize_pos_embed({}, config, 16)
