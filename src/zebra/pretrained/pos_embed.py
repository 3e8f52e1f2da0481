"""Interpolation of positional embeddings for another image size.

The method is that of open_clip's `resize_pos_embed`: bicubic with anti-aliasing, without aligned corners.
transformers' `interpolate_pos_encoding` has no anti-aliasing, which in torch also changes the cubic coefficient (-0.75
instead of -0.5): its results differ for larger and for smaller sizes.
"""

from dataclasses import replace

import torch
from torch import Tensor, cat
from torch.nn import functional as F

from zebra.config.image_towers import NaflexVisionConfig, ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.timm_tower import TimmVisionConfig
from zebra.config.transformers_towers import TransformersVisionConfig
from zebra.errors import ConfigError, WeightsError
from zebra.models.image.timm_tower import TimmImageTower

RESNET_STRIDE = 32
"""Factor by which a ResNet reduces the image before its attention pool."""


def resize_pos_embed(
    tensors: dict[str, Tensor], config: ModelConfig, image_size: int
) -> tuple[dict[str, Tensor], ModelConfig]:
    """Adapt the image tower to another input size.

    Args:
        tensors: Tensors of any floating type, by name on disk; not changed.
        config: Config of the tensors.
        image_size: Side of the new square input, in pixels.

    Returns:
        The tensors with positions for `image_size`, interpolated in fp32 and cast back, and the new config. The
        positions of the class token (ViT) and of the mean (ResNet) are kept. The vectors are similar to those of the
        old size, not equal: evaluate them before use, or fine-tune.

    Raises:
        ConfigError: The tower does not support this size.
        WeightsError: The positions are missing or have another shape than the config implies.
    """
    if isinstance(config.vision, TransformersVisionConfig):
        raise ConfigError(
            f"image_size: transformers computes this image tower at {config.image_size} pixels only. Load it without "
            "image_size."
        )
    if isinstance(config.vision, NaflexVisionConfig):
        raise ConfigError("a NaFlex model has no fixed image size. Use max_num_patches= instead of image_size=.")
    resized = replace(config, image_size=image_size)
    if isinstance(config.vision, TimmVisionConfig):
        return _resize_timm_tower(tensors, config, config.vision, image_size), resized
    name, old_size, num_extra = _describe_pos_embed(config)
    _, new_size, _ = _describe_pos_embed(resized)
    positions_PD = _get_pos_embed(tensors, name, old_size * old_size + num_extra)
    if new_size == old_size:
        return dict(tensors), resized
    grid_1DHW = positions_PD[num_extra:].float().reshape(1, old_size, old_size, -1).permute(0, 3, 1, 2)
    grid_1DHW = F.interpolate(grid_1DHW, size=(new_size, new_size), mode="bicubic", antialias=True, align_corners=False)
    grid_PD = grid_1DHW[0].flatten(1).T.to(positions_PD.dtype)
    return tensors | {name: cat([positions_PD[:num_extra], grid_PD])}, resized


def _resize_timm_tower(
    tensors: dict[str, Tensor], config: ModelConfig, vision: TimmVisionConfig, image_size: int
) -> dict[str, Tensor]:
    """Let timm interpolate whatever of its trunk depends on the image size."""
    with torch.device("meta"):
        tower = TimmImageTower(vision, config.image_size, config.embed_dim)
    # `build_model` reports missing tensors and wrong shapes.
    fitting = {
        name: tensors[f"visual.{name}"]
        for name, value in tower.state_dict().items()
        if f"visual.{name}" in tensors and tensors[f"visual.{name}"].shape == value.shape
    }
    tower.load_state_dict(fitting, strict=False, assign=True)
    tower.resize(image_size)
    state = {f"visual.{name}": value for name, value in tower.state_dict().items() if not value.is_meta}
    return tensors | state


def _describe_pos_embed(config: ModelConfig) -> tuple[str, int, int]:
    """Return the name of the image tower's positions, the side of their grid, and how many positions precede it."""
    vision = config.vision
    assert not isinstance(vision, TimmVisionConfig | TransformersVisionConfig)
    if isinstance(vision, ResNetConfig):
        return "visual.attnpool.positional_embedding", config.image_size // RESNET_STRIDE, 1
    num_extra = int(isinstance(vision, VisionTransformerConfig))  # SigLIP has no class token
    return "visual.positional_embedding", config.image_size // vision.patch_size, num_extra


def _get_pos_embed(tensors: dict[str, Tensor], name: str, num_positions: int) -> Tensor:
    if name not in tensors:
        raise WeightsError(
            f"the weights lack the tensor {name}. Copy the weights and their config from the same model."
        )
    if tensors[name].ndim != 2 or len(tensors[name]) != num_positions:
        raise WeightsError(
            f"{name} has shape {tuple(tensors[name].shape)}, but the config implies {num_positions} positions. Copy "
            "the weights and their config from the same model."
        )
    return tensors[name]
