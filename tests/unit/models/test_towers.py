"""The CLIP model and its towers."""

import math

import pytest
import torch

from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.errors import ConfigError, ShapeError
from zebra.models import CLIP

TEXT = TextConfig(width=64, layers=2, heads=1, vocab_size=600, context_length=16)
TOWERS = {
    "vit": VisionTransformerConfig(width=64, layers=2, heads=1, patch_size=16),
    "resnet": ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4),
}


def make_clip(kind="vit", seed=0):
    torch.manual_seed(seed)
    return CLIP(ModelConfig(embed_dim=32, image_size=64, vision=TOWERS[kind], text=TEXT)).eval()


def make_texts(*lengths, eot=599, width=16, padding=0):
    tokens = torch.full((len(lengths), width), padding)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.arange(1, length + 1) * 7 % 500
        tokens[row, length - 1] = eot
    return tokens


@pytest.mark.parametrize("kind", TOWERS)
def test_both_towers_return_unit_vectors(kind):
    image_BE, text_BE, scale = make_clip(kind)(torch.randn(3, 3, 64, 64), make_texts(5, 9, 16))
    assert image_BE.shape == text_BE.shape == (3, 32)
    assert torch.allclose(image_BE.norm(dim=1), torch.ones(3), atol=1e-6)
    assert torch.allclose(text_BE.norm(dim=1), torch.ones(3), atol=1e-6)
    assert float(scale.detach()) == pytest.approx(1 / 0.07)


def test_a_text_is_pooled_at_its_first_end_token():
    tower = make_clip().text
    once, twice = make_texts(5), make_texts(5)
    twice[0, 8] = 599
    assert torch.allclose(tower(once), tower(twice), atol=1e-6)


def test_texts_longer_than_the_context_are_refused():
    with pytest.raises(ShapeError, match=r"17 tokens .* context length 16"):
        make_clip().text(make_texts(17, width=17))


def test_the_attention_pool_equals_full_attention_for_its_query():
    """Compare with the first row of attention with all queries."""
    pool = make_clip("resnet").visual.attnpool.double()
    x = torch.randn(2, 256, 2, 2, dtype=torch.float64)
    tokens = x.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + pool.positional_embedding
    reference, _ = torch.nn.functional.multi_head_attention_forward(
        tokens.transpose(0, 1), tokens.transpose(0, 1), tokens.transpose(0, 1),
        256, pool.heads, None,
        torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0.0,
        pool.c_proj.weight, pool.c_proj.bias, use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
    )  # fmt: skip
    assert torch.allclose(pool(x), reference[0], atol=1e-12)


def test_strides_skip_no_pixels():
    """Anti-aliasing: every input pixel of a strided block gets a gradient."""
    block = make_clip("resnet").visual.layer2[0].train(False)
    torch.nn.init.ones_(block.bn3.weight)
    x = torch.randn(1, 32, 8, 8, requires_grad=True)
    block(x).sum().backward()
    assert (x.grad.abs().sum(dim=1) > 0).all()


def test_initialization_follows_the_published_scales():
    model = CLIP(
        ModelConfig(
            embed_dim=256,
            image_size=64,
            vision=VisionTransformerConfig(width=256, layers=2, heads=4, patch_size=16),
            text=TextConfig(width=256, layers=4, heads=4, vocab_size=2000, context_length=32),
        )
    )
    width, layers = 256, 4
    block = model.text.transformer.resblocks[0]
    for tensor, std in [
        (model.text.token_embedding.weight, 0.02),
        (model.text.positional_embedding, 0.01),
        (block.attn.in_proj_weight, width**-0.5),
        (block.attn.out_proj.weight, width**-0.5 * (2 * layers) ** -0.5),
        (block.mlp.c_fc.weight, (2 * width) ** -0.5),
        (block.mlp.c_proj.weight, width**-0.5 * (2 * layers) ** -0.5),
        (model.text.text_projection, width**-0.5),
        (model.visual.proj, width**-0.5),
        (model.visual.class_embedding, width**-0.5),
    ]:
        assert float(tensor.detach().std()) == pytest.approx(std, rel=0.15)
    assert float(model.logit_scale.detach()) == pytest.approx(math.log(1 / 0.07))


def test_residual_branches_of_the_resnet_start_at_zero():
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for block in getattr(make_clip("resnet").visual, stage):
            assert torch.equal(block.bn3.weight, torch.zeros_like(block.bn3.weight))


def test_the_logit_scale_is_clamped_between_1_and_100():
    model = make_clip()
    for value, expected in [(9.0, 100.0), (-3.0, 1.0), (2.0, math.exp(2.0))]:
        torch.nn.init.constant_(model.logit_scale, value)
        model.clamp_logit_scale()
        assert float(model.logit_scale.detach().exp()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 60}, "image_size"),
        ({"vision": {"width": 64, "layers": 2, "heads": 3, "patch_size": 16}}, "heads"),
    ],
)
def test_invalid_sizes_are_refused(change, message):
    def build():
        vision = VisionTransformerConfig(**change["vision"]) if "vision" in change else TOWERS["vit"]
        return ModelConfig(embed_dim=32, image_size=change.get("image_size", 64), vision=vision, text=TEXT)

    with pytest.raises(ConfigError, match=message):
        build()
