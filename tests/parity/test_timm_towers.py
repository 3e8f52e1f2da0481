"""Image towers of timm: zebra computes what open_clip's `TimmModel` computes from the same folder.

Reference: open_clip 3.3.0 with timm 1.0.31, random weights with noise in gains and biases, and branch scales that are
not small. Tolerance: 1e-5 on components of unit vectors, fp32; both call the same trunk. Each family has few blocks,
and small widths where timm's constructor accepts them.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from zebra.models import CLIP
from zebra.pretrained.open_clip.layout import read_open_clip
from zebra.pretrained.weights import build_model

TEXT = {"context_length": 8, "vocab_size": 514, "width": 32, "heads": 1, "layers": 1}
SMALL_VIT = {"depth": 2, "embed_dim": 64, "num_heads": 4}
SMALL_CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 64)}
SMALL: dict[str, dict[str, Any]] = {
    "convnext_base_w": SMALL_CONVNEXT,
    "convnext_large_d": SMALL_CONVNEXT,
    "EVA01-g-14": SMALL_VIT,
    "EVA02-B-16": SMALL_VIT,
    "EVA02-E-14-plus": SMALL_VIT,
    "EVA02-L-14-336": SMALL_VIT,
    "PE-Core-T-16-384": SMALL_VIT,
    "ViTamin-S": {"depth": 1},
    "MobileCLIP-B": {"depth": 1},
    "MobileCLIP-S1": {"layers": (1, 1, 1, 1)},
    "MobileCLIP2-S3": {"layers": (1, 1, 1, 1, 1), "embed_dims": (16, 32, 32, 64, 64)},
    "swin_base_patch4_window7_224": {"depths": (2, 2, 1, 1), "embed_dim": 32, "num_heads": (1, 2, 4, 8)},
    "vit_medium_patch16_gap_256": SMALL_VIT,
    "vit_relpos_medium_patch16_cls_224": SMALL_VIT,
}
"""Settings of timm's constructors that make the trunk of a config of open_clip small."""


@pytest.fixture
def small_trunks(monkeypatch: pytest.MonkeyPatch, open_clip: ModuleType) -> Callable[..., None]:
    """Return a function that sets more arguments of all trunks that timm builds."""
    import timm

    create_model = timm.create_model
    return lambda **settings: monkeypatch.setattr(timm, "create_model", functools.partial(create_model, **settings))


def noisy(model: nn.Module) -> nn.Module:
    """Add noise to gains and biases, and replace small scales of branches, so that every tensor matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.add_(torch.rand(tensor.shape, generator=generator))
            elif name.endswith("gamma") or "layer_scale" in name or "ls" in name.split("."):
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
            elif tensor.ndim in (2, 4):  # timm initializes them so small that all images have the same vector
                fan_in = tensor[0].numel()
                tensor.normal_(std=1.5 * fan_in**-0.5, generator=generator)
    return model.eval()


def save_peer(open_clip: ModuleType, folder: Path, model_cfg: dict[str, Any]) -> Any:
    """Let open_clip build a config, add noise and save its weights; return the model."""
    config = {"model_cfg": model_cfg, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    peer = noisy(open_clip.create_model(f"local-dir:{folder}"))
    save_file(peer.state_dict(), folder / "open_clip_model.safetensors")
    return peer


def read(folder: Path) -> CLIP:
    checkpoint = read_open_clip(folder)
    return build_model(checkpoint.config, checkpoint.tensors, str(folder)).eval()


def assert_equal_vectors(peer: Any, own: CLIP, image_size: int) -> None:
    images = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected_BE, vectors_BE = peer.encode_image(images, True), own.encode_images(images)
        projected_BE = own.project_image_features(own.visual.features(images))
    torch.testing.assert_close(vectors_BE, expected_BE, atol=1e-5, rtol=0)
    torch.testing.assert_close(projected_BE, expected_BE, atol=1e-5, rtol=0)
    assert (expected_BE[0] - expected_BE[1]).abs().max() > 1e-3, "the vectors must depend on the images"


@pytest.mark.parametrize("name", SMALL)
def test_a_timm_tower_of_open_clip_gives_the_same_vectors(
    open_clip: ModuleType, tmp_path: Path, small_trunks: Callable[..., None], name: str
) -> None:
    small_trunks(**SMALL[name])
    cfg = open_clip.get_model_config(name) | {"text_cfg": TEXT}
    peer = save_peer(open_clip, tmp_path, cfg)
    assert_equal_vectors(peer, read(tmp_path), cfg["vision_cfg"]["image_size"])


@pytest.mark.parametrize(
    "vision_cfg",
    [
        {"timm_pool": "abs_attn", "timm_proj": None},
        {"timm_pool": "abs_attn", "timm_proj": "none"},
        {"timm_pool": "rot_attn", "timm_proj": "linear"},
        {"timm_pool": "rot_attn", "timm_proj": ""},
        {"timm_pool": "avg", "timm_proj": None},
        {"timm_pool": "max", "timm_proj": "mlp", "timm_proj_bias": True},
        {"timm_pool": "avg", "timm_proj": "none"},
        {"timm_pool": "", "timm_proj": "linear", "timm_proj_bias": True, "timm_drop": 0.3, "timm_drop_path": 0.2},
    ],
    ids=json.dumps,
)
def test_every_pool_and_projection_has_the_meaning_of_open_clip(
    open_clip: ModuleType, tmp_path: Path, small_trunks: Callable[..., None], vision_cfg: dict[str, Any]
) -> None:
    small_trunks(**SMALL_CONVNEXT)
    vision = {"timm_model_name": "convnext_atto", "image_size": 224, **vision_cfg}
    peer = save_peer(open_clip, tmp_path, {"embed_dim": 64, "vision_cfg": vision, "text_cfg": TEXT})
    assert_equal_vectors(peer, read(tmp_path), 224)
