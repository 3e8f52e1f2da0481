"""Image towers in `open_clip_config.json`: own ones and those of timm."""

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
from zebra.config.timm_tower import TimmVisionConfig
from zebra.config.transformer import TransformerConfig
from zebra.config.transformers_towers import TransformersVisionConfig
from zebra.errors import ConfigError, WeightsError
from zebra.pretrained.open_clip.blocks import parse_transformer, to_transformer_cfg
from zebra.pretrained.open_clip.schema import CLIPVisionCfg, unsupported_key_error
from zebra.pretrained.open_clip.timm import NAFLEX_TOWERS, TIMM_TOWERS
from zebra.pretrained.open_clip.timm_towers import parse_timm_tower, to_timm_cfg
from zebra.pretrained.open_clip.timm_vit import find_timm_name, find_timm_vit


def parse_vision(cfg: CLIPVisionCfg, image_size: int, *, quick_gelu: bool) -> ImageTowerConfig:
    """Convert `vision_cfg`.

    Raises:
        ConfigError: zebra does not support the tower.
    """
    where = "model_cfg.vision_cfg"
    if cfg.timm_model_name is not None:
        return _parse_timm(cfg, image_size, where)
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
        pre_norm=not cfg.no_ln_pre,
        **_parse_pooling(cfg, where),
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
            "squares. Use --format zebra, or --format transformers for a model of SigLIP 2's kind."
        )
    if isinstance(vision, TimmVisionConfig):
        return to_timm_cfg(vision, config.image_size)
    if isinstance(vision, TransformersVisionConfig):
        raise WeightsError(
            f"open_clip has no image tower that transformers computes ({vision.model_type}). Use --format zebra."
        )
    if isinstance(vision, SiglipVisionConfig):
        return {
            "image_size": config.image_size,
            "timm_model_name": _find_siglip_name(vision, config.image_size),
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
    if is_built_by_timm(vision):
        return {
            "image_size": config.image_size,
            "timm_model_name": find_timm_name(vision, config.image_size),
            "timm_model_pretrained": False,
            "timm_pool": "token",
            "timm_proj": "linear",
            "timm_proj_bias": vision.projection_bias,
        }
    cfg = {
        "image_size": config.image_size,
        "layers": vision.layers,
        "head_width": vision.width // vision.heads,
        "patch_size": vision.patch_size,
        **to_transformer_cfg(vision),
    }
    if not vision.pre_norm:
        cfg["no_ln_pre"] = True
    if vision.pooling == "mean":
        cfg |= {"pool_type": "avg", "final_ln_after_pool": True}
    if vision.pooling == "attention":
        cfg |= {"attentional_pool": True, "attn_pooler_queries": 1, "attn_pooler_heads": vision.pooling_heads}
    return cfg


def is_built_by_timm(tower: TransformerConfig) -> bool:
    """Return whether open_clip builds a tower with timm: SigLIP's, and ViTs with biases that its own do not have."""
    if isinstance(tower, VisionTransformerConfig):
        return tower.patch_bias or tower.projection_bias
    return isinstance(tower, SiglipVisionConfig | NaflexVisionConfig)


def parse_side(key: str, value: int | tuple[int, int]) -> int:
    """Return the side of a square in pixels; ConfigError for a rectangle."""
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) > 1:
        raise unsupported_key_error(f"model_cfg.vision_cfg.{key}", value)
    return sides.pop()


def _parse_timm(cfg: CLIPVisionCfg, image_size: int, where: str) -> ImageTowerConfig:
    found: tuple[ImageTowerConfig, int] | None = find_timm_vit(cfg)
    siglip_towers = TIMM_TOWERS | NAFLEX_TOWERS
    if found is None and (cfg.timm_pool, cfg.timm_proj) == ("map", "none"):
        found = siglip_towers.get(cfg.timm_model_name or "")
    if found is None:
        return parse_timm_tower(cfg)
    tower, trained_size = found
    if image_size != trained_size:
        raise ConfigError(
            f"{where}.image_size is {image_size}, but {cfg.timm_model_name} needs {trained_size}. Change it."
        )
    return tower


def _parse_pooling(cfg: CLIPVisionCfg, where: str) -> dict[str, Any]:
    """Return the pooling of a Vision Transformer: `pooling`, and `pooling_heads` if it is attention."""
    if cfg.attentional_pool and cfg.pool_type == "tok":
        return {"pooling": "attention", "pooling_heads": cfg.attn_pooler_heads}
    if cfg.attentional_pool or cfg.pool_type not in ("tok", "avg"):
        raise unsupported_key_error(f"{where}.pool_type", cfg.pool_type)
    if cfg.pool_type == "tok":
        return {"pooling": "class"}
    if not cfg.final_ln_after_pool:
        raise unsupported_key_error(f"{where}.final_ln_after_pool", cfg.final_ln_after_pool)
    return {"pooling": "mean"}


def _find_siglip_name(vision: SiglipVisionConfig, image_size: int) -> str:
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
