"""Weights for one input size in, weights for another out: grids of positional embeddings resampled, or texts cut.

Resampling is open_clip's (`resize_pos_embed`): bicubic with anti-aliasing, corners not aligned. transformers'
`interpolate_pos_encoding` leaves anti-aliasing out, which in torch also changes the cubic itself (-0.75 in place of
-0.5): its positions differ in both directions, larger and smaller.
"""

from dataclasses import replace

from torch import Tensor, cat
from torch.nn import functional as F

from zebra.config.model import ModelConfig, ResNetConfig, VisionTransformerConfig
from zebra.errors import WeightsError

RESNET_STRIDE = 32
"""Factor by which a ResNet reduces the image before its attention pool."""


def resize_pos_embed(
    tensors: dict[str, Tensor], config: ModelConfig, image_size: int
) -> tuple[dict[str, Tensor], ModelConfig]:
    """Fit the image tower to another input size.

    Args:
        tensors: Name on disk → tensor of any floating type; left as it is.
        config: What the tensors were made for.
        image_size: Side of the new square input, in pixels.

    Returns:
        The tensors with a grid for `image_size`, computed in fp32 and cast back, and the config that says so. The
        class token's position (ViT) and the mean's (ResNet) are kept. The vectors are close to the old ones, not
        equal: measure before relying on them, or fine-tune.

    Raises:
        ConfigError: The tower cannot take this size.
        WeightsError: The positions are missing, or do not belong to the config.
    """
    resized = replace(config, image_size=image_size)
    name, old, extra = _describe_pos_embed(config)
    _, new, _ = _describe_pos_embed(resized)
    positions_PD = _get_pos_embed(tensors, name, old * old + extra)
    if new == old:
        return dict(tensors), resized
    grid_1DHW = positions_PD[extra:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid_1DHW = F.interpolate(grid_1DHW, size=(new, new), mode="bicubic", antialias=True, align_corners=False)
    grid_PD = grid_1DHW[0].flatten(1).T.to(positions_PD.dtype)
    return tensors | {name: cat([positions_PD[:extra], grid_PD])}, resized


def _describe_pos_embed(config: ModelConfig) -> tuple[str, int, int]:
    """Return the name of the image tower's positions, the side of their grid, and how many precede it."""
    vision = config.vision
    if isinstance(vision, ResNetConfig):
        return "visual.attnpool.positional_embedding", config.image_size // RESNET_STRIDE, 1
    extra = int(isinstance(vision, VisionTransformerConfig))  # SigLIP has no class token
    return "visual.positional_embedding", config.image_size // vision.patch_size, extra


def _get_pos_embed(tensors: dict[str, Tensor], name: str, num_positions: int) -> Tensor:
    if name not in tensors:
        raise WeightsError(f"the weights lack the tensor {name}; they do not belong to this config")
    if tensors[name].ndim != 2 or len(tensors[name]) != num_positions:
        raise WeightsError(
            f"{name} has shape {tuple(tensors[name].shape)}, but the config asks for {num_positions} positions; the weights "
            "do not belong to it"
        )
    return tensors[name]
