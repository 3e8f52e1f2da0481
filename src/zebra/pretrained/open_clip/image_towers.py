"""Image towers in `open_clip_config.json`: ViT, ResNet and timm's SigLIP towers."""

from dataclasses import replace
from typing import Any

from zebra.config.image_towers import (
    ImageTowerConfig,
    NaflexVisionConfig,
    ResNetConfig,
    SiglipVisionConfig,
    VisionTransformerConfig,
)
from zebra.config.model import ModelConfig
from zebra.errors import ConfigError, WeightsError
from zebra.pretrained.open_clip.blocks import parse_transformer, to_transformer_cfg
from zebra.pretrained.open_clip.schema import CLIPVisionCfg, unsupported_key_error
from zebra.pretrained.open_clip.timm import NAFLEX_TOWERS, TIMM_TOWERS


def parse_vision(cfg: CLIPVisionCfg, image_size: int, *, quick_gelu: bool) -> ImageTowerConfig:
    """Convert `vision_cfg`.

    Raises:
        ConfigError: zebra does not support the tower.
    """
    where = "model_cfg.vision_cfg"
    if cfg.timm_model_name is not None:
        towers = TIMM_TOWERS | NAFLEX_TOWERS
        if cfg.timm_model_name not in towers:
            raise unsupported_key_error(f"{where}.timm_model_name", cfg.timm_model_name)
        if (cfg.timm_pool, cfg.timm_proj) != ("map", "none"):
            raise unsupported_key_error(f"{where}.timm_pool, timm_proj", (cfg.timm_pool, cfg.timm_proj))
        tower, trained_size = towers[cfg.timm_model_name]
        if image_size != trained_size:
            raise ConfigError(
                f"{where}.image_size is {image_size}, but {cfg.timm_model_name} needs {trained_size}. Change it."
            )
        return tower
    if cfg.head_width < 1:
        raise ConfigError(f"{where}.head_width is {cfg.head_width}. It must be at least 1.")
    if isinstance(cfg.layers, tuple):
        return ResNetConfig(width=cfg.width, layers=cfg.layers, heads=cfg.width * 32 // cfg.head_width)
    if cfg.patch_size is None:
        raise ConfigError(f"{where}.patch_size is null. Set the patch size of the Vision Transformer.")
    return VisionTransformerConfig(
        layers=cfg.layers,
        heads=cfg.width // cfg.head_width,
        patch_size=parse_side("patch_size", cfg.patch_size),
        **parse_transformer(cfg, where, quick_gelu=quick_gelu),
    )


def to_vision_cfg(config: ModelConfig) -> dict[str, Any]:
    """Return `vision_cfg` for a model.

    Raises:
        WeightsError: open_clip cannot build the image tower.
    """
    vision = config.vision
    if isinstance(vision, NaflexVisionConfig):
        raise WeightsError(
            "open_clip_config.json cannot say that images are resized for NaFlex, so open_clip would squash them to "
            "squares. Use --format transformers."
        )
    if isinstance(vision, SiglipVisionConfig):
        return {
            "image_size": config.image_size,
            "timm_model_name": _find_timm_name(vision, config.image_size),
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        }
    if isinstance(vision, ResNetConfig):
        return {
            "image_size": config.image_size,
            "layers": list(vision.layers),
            "width": vision.width,
            "head_width": vision.width * 32 // vision.heads,
            "patch_size": None,
        }
    return {
        "image_size": config.image_size,
        "layers": vision.layers,
        "head_width": vision.width // vision.heads,
        "patch_size": vision.patch_size,
        **to_transformer_cfg(vision),
    }


def parse_side(key: str, value: int | tuple[int, int]) -> int:
    """Return the side of a square in pixels; ConfigError for a rectangle."""
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) > 1:
        raise unsupported_key_error(f"model_cfg.vision_cfg.{key}", value)
    return sides.pop()


def _find_timm_name(vision: SiglipVisionConfig, image_size: int) -> str:
    if vision.hidden == 4 * vision.width:
        vision = replace(vision, mlp_width=None)
    for name, known in TIMM_TOWERS.items():
        if known == (vision, image_size):
            return name
    for name, (tower, size) in TIMM_TOWERS.items():
        if (replace(tower, activation=vision.activation), size) == (vision, image_size):
            raise WeightsError(
                f"open_clip calls this image tower {name}, which uses {tower.activation}, but the model uses "
                f"{vision.activation}. Use --format transformers."
            )
    raise WeightsError(
        f"open_clip has no SigLIP image tower of width {vision.width}, {vision.layers} layers, patches of "
        f"{vision.patch_size} and images of {image_size} pixels, because timm has no name for it. Use "
        "--format transformers."
    )
