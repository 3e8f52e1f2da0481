"""Positional embeddings for another image size, compared with open_clip and timm.

References: open_clip 3.3.0 `resize_pos_embed` for grids after a class token. It does not support the ResNet pool, which
it gets under the ViT's name, because it has the same grid after one extra position. timm 1.0.31
`resample_abs_pos_embed` for SigLIP's grids without a class token. Tolerance: 1e-6 on values of about 1, because both
call torch's interpolation in fp32. transformers' `interpolate_pos_encoding` does not antialias and gives other values,
which a test shows.
"""

from types import SimpleNamespace

import pytest
import torch

from zebra.config.image_towers import ResNetConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.pretrained.pos_embed import resize_pos_embed

TEXT = TextConfig(width=64, layers=1, heads=1, vocab_size=600)
TOLERANCE = 1e-6
CASES = {
    "ViT-B/32 grows": (VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=32), 224, 384),
    "ViT-B/32 shrinks": (VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=32), 224, 160),
    "ViT-L/14 to 336": (VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=14), 224, 336),
    "RN50 grows": (ResNetConfig(width=2, layers=(1, 1, 1, 1), heads=1), 224, 288),
    "RN50x4 shrinks": (ResNetConfig(width=2, layers=(1, 1, 1, 1), heads=1), 288, 224),
}


def ours(vision, old, new, positions):
    config = ModelConfig(embed_dim=64, image_size=old, vision=vision, text=TEXT)
    pool = "attnpool." if vision.kind == "resnet" else ""
    name = f"visual.{pool}positional_embedding"
    return resize_pos_embed({name: positions}, config, new)[0][name]


@pytest.mark.parametrize("case", CASES)
def test_grids_after_one_extra_position_equal_open_clip(case, open_clip):
    from open_clip.model import resize_pos_embed

    vision, old, new = CASES[case]
    step = 32 if vision.kind == "resnet" else vision.patch_size
    torch.manual_seed(0)
    positions = torch.randn((old // step) ** 2 + 1, 64)
    state = {"visual.positional_embedding": positions}
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=new // step)))
    theirs = state["visual.positional_embedding"]
    assert len(theirs) != len(positions)
    assert torch.allclose(ours(vision, old, new, positions), theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("old", "new"), [(224, 384), (384, 224), (256, 518)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_grids_without_a_class_token_equal_timm(old, new, dtype, open_clip):
    from timm.layers import resample_abs_pos_embed

    torch.manual_seed(0)
    positions = torch.randn((old // 14) ** 2, 64).to(dtype)
    theirs = resample_abs_pos_embed(positions[None], [new // 14, new // 14], num_prefix_tokens=0)[0]
    vision = SiglipVisionConfig(width=64, layers=1, heads=1, patch_size=14)
    result = ours(vision, old, new, positions)
    assert result.dtype == theirs.dtype == dtype
    assert torch.allclose(result.float(), theirs.float(), rtol=0, atol=TOLERANCE)


def test_transformers_interpolates_without_antialiasing_and_differs(transformers):
    """The two peers do not agree; zebra follows open_clip."""
    vision = VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=32)
    torch.manual_seed(0)
    peer = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, patch_size=32)
    )
    embeddings = next(module for module in peer.modules() if hasattr(module, "interpolate_pos_encoding"))
    with torch.no_grad():
        positions = torch.randn(50, 64)
        embeddings.position_embedding.weight.copy_(positions)
        theirs = embeddings.interpolate_pos_encoding(torch.zeros(1, 145, 64), 384, 384)[0]
    assert 0.01 < (ours(vision, 224, 384, positions) - theirs).abs().max() < 1
