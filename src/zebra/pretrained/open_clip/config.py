"""Conversion between `open_clip_config.json` and zebra's config and preprocessing.

Reference for the keys: `model.py` and `transform.py` of open_clip 3.3.0.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zebra.config.image_towers import ResNetConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import SiglipTextConfig, TextConfig
from zebra.config.transformer import MAX_MLP_WIDTH, Activation, TransformerConfig
from zebra.errors import ConfigError, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.pretrained.open_clip.schema import (
    CLIPTextCfg,
    CLIPVisionCfg,
    ModelCfg,
    NormKwargs,
    PreprocessCfg,
    TowerCfg,
    parse_section,
    unsupported_key_error,
)
from zebra.pretrained.open_clip.timm import TIMM_TOWERS


def parse_open_clip_config(raw: Mapping[str, Any]) -> tuple[ModelConfig, Preprocess]:
    """Convert the contents of the file.

    Raises:
        ConfigError: A key is unknown or has a value that zebra does not support. Only keys that cannot change a vector
            are ignored.
    """
    for key, value in raw.items():
        if key not in ("model_cfg", "preprocess_cfg"):
            raise unsupported_key_error(key, value)
    config = _parse_config(raw.get("model_cfg"))
    return config, _parse_preprocess(raw.get("preprocess_cfg") or {}, config.image_size)


def to_open_clip_config(config: ModelConfig, preprocess: Preprocess) -> dict[str, Any]:
    """Return the contents of the file for a model, without the name of its tokenizer.

    Raises:
        WeightsError: open_clip cannot build the model; the message gives the reason.
    """
    return {
        "model_cfg": _to_model_cfg(config),
        "preprocess_cfg": {
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": preprocess.interpolation,
            "resize_mode": preprocess.resize,
        },
    }


def _parse_config(raw: object) -> ModelConfig:
    if not isinstance(raw, Mapping) or not raw.keys() >= {"embed_dim", "vision_cfg", "text_cfg"}:
        raise ConfigError("model_cfg needs embed_dim, vision_cfg and text_cfg. Download the file again.")
    tower_keys = ("vision_cfg", "text_cfg")
    model = parse_section(ModelCfg, {key: value for key, value in raw.items() if key not in tower_keys}, "model_cfg")
    vision = parse_section(CLIPVisionCfg, raw["vision_cfg"], "model_cfg.vision_cfg")
    text = parse_section(CLIPTextCfg, raw["text_cfg"], "model_cfg.text_cfg")
    image_size = _parse_side("image_size", vision.image_size)
    return ModelConfig(
        embed_dim=model.embed_dim,
        image_size=image_size,
        vision=_parse_vision(vision, image_size, quick_gelu=model.quick_gelu),
        text=_parse_text(text, quick_gelu=model.quick_gelu),
        logit_bias=model.init_logit_bias is not None,
    )


def _parse_vision(
    cfg: CLIPVisionCfg, image_size: int, *, quick_gelu: bool
) -> VisionTransformerConfig | ResNetConfig | SiglipVisionConfig:
    where = "model_cfg.vision_cfg"
    if cfg.timm_model_name is not None:
        if cfg.timm_model_name not in TIMM_TOWERS:
            raise unsupported_key_error(f"{where}.timm_model_name", cfg.timm_model_name)
        if (cfg.timm_pool, cfg.timm_proj) != ("map", "none"):
            raise unsupported_key_error(f"{where}.timm_pool, timm_proj", (cfg.timm_pool, cfg.timm_proj))
        tower, trained_size = TIMM_TOWERS[cfg.timm_model_name]
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
        patch_size=_parse_side("patch_size", cfg.patch_size),
        **_parse_transformer(cfg, where, quick_gelu=quick_gelu),
    )


def _parse_text(cfg: CLIPTextCfg, *, quick_gelu: bool) -> TextConfig | SiglipTextConfig:
    where = "model_cfg.text_cfg"
    # The text towers that zebra supports: causal ones pool at the end token, SigLIP's at the last position.
    pool_type, proj_bias = ("last", True) if cfg.no_causal_mask else ("argmax", False)
    if cfg.pool_type != pool_type:
        raise unsupported_key_error(f"{where}.pool_type", cfg.pool_type)
    if cfg.proj_bias != proj_bias:
        raise unsupported_key_error(f"{where}.proj_bias", cfg.proj_bias)
    clean = cfg.tokenizer_kwargs.clean if cfg.tokenizer_kwargs else None
    if clean is not None and clean not in _supported_cleaning(cfg):
        raise unsupported_key_error(f"{where}.tokenizer_kwargs.clean", clean)
    config_type = SiglipTextConfig if cfg.no_causal_mask else TextConfig
    return config_type(
        layers=cfg.layers,
        heads=cfg.heads,
        vocab_size=cfg.vocab_size,
        context_length=cfg.context_length,
        **_parse_transformer(cfg, where, quick_gelu=quick_gelu),
    )


def _supported_cleaning(cfg: CLIPTextCfg) -> tuple[str, ...]:
    """Return the text cleanings of open_clip for which zebra's tokenizers return the same ids."""
    if cfg.no_causal_mask:
        return ("lower", "whitespace", "canonicalize")  # `zebra.text.siglip_tokenizer` also reads this key
    return ("lower", "whitespace") if cfg.hf_tokenizer_name else ("lower",)


def _parse_transformer(cfg: TowerCfg, where: str, *, quick_gelu: bool) -> dict[str, Any]:
    if quick_gelu and cfg.act_kwargs is not None:
        raise ConfigError(
            f"{where}.act_kwargs and quick_gelu are both set, but quick_gelu has no options. Delete one of them."
        )
    is_tanh = cfg.act_kwargs is not None and cfg.act_kwargs.approximate == "tanh"
    activation: Activation = "quick_gelu" if quick_gelu else "gelu_tanh" if is_tanh else "gelu"
    if not 1 <= cfg.width * cfg.mlp_ratio <= MAX_MLP_WIDTH:  # may be infinite
        raise ConfigError(
            f"{where}: width × mlp_ratio ({cfg.width} × {cfg.mlp_ratio}) must be between 1 and {MAX_MLP_WIDTH:,}. "
            "Download the file again."
        )
    mlp_width = int(cfg.width * cfg.mlp_ratio)
    return {
        "width": cfg.width,
        "mlp_width": None if mlp_width == 4 * cfg.width else mlp_width,
        "activation": activation,
        "norm_eps": (cfg.norm_kwargs or NormKwargs()).eps,
    }


def _parse_side(key: str, value: int | tuple[int, int]) -> int:
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) > 1:
        raise unsupported_key_error(f"model_cfg.vision_cfg.{key}", value)
    return sides.pop()


def _parse_preprocess(raw: object, image_size: int) -> Preprocess:
    if isinstance(raw, Mapping):  # null means the default
        raw = {key: value for key, value in raw.items() if value is not None}
    cfg = parse_section(PreprocessCfg, raw, "preprocess_cfg")
    return Preprocess(
        image_size=image_size,
        resize=cfg.resize_mode,
        # "random" applies to training only; the evaluation transform is then bicubic.
        interpolation="bilinear" if cfg.interpolation == "bilinear" else "bicubic",
        crop="half_even",
        rgb="last",
        mean=cfg.mean,
        std=cfg.std,
        decode="reference",
    )


def _to_model_cfg(config: ModelConfig) -> dict[str, Any]:
    model_cfg: dict[str, Any] = {"embed_dim": config.embed_dim}
    if _has_quick_gelu(config):
        model_cfg["quick_gelu"] = True
    if config.logit_bias:
        model_cfg["init_logit_bias"] = -10.0
    if isinstance(config.text, SiglipTextConfig):
        model_cfg["custom_text"] = True
    return model_cfg | {"vision_cfg": _to_vision_cfg(config), "text_cfg": _to_text_cfg(config.text)}


def _has_quick_gelu(config: ModelConfig) -> bool:
    """Return whether both towers use QuickGELU; WeightsError if only one does, as the file has one flag."""
    activations = {
        tower.activation
        for tower in (config.vision, config.text)
        if isinstance(tower, TransformerConfig) and not isinstance(tower, SiglipVisionConfig)
    }
    if "quick_gelu" in activations and len(activations) > 1:
        raise WeightsError(
            f"the towers use {' and '.join(sorted(activations))}, but open_clip supports quick_gelu in both or "
            "neither. Use --format zebra."
        )
    return "quick_gelu" in activations


def _to_vision_cfg(config: ModelConfig) -> dict[str, Any]:
    vision = config.vision
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
        **_to_transformer_cfg(vision),
    }


def _to_text_cfg(text: TextConfig | SiglipTextConfig) -> dict[str, Any]:
    cfg = {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "heads": text.heads,
        "layers": text.layers,
        **_to_transformer_cfg(text),
    }
    if isinstance(text, SiglipTextConfig):
        cfg |= {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}
    return cfg


def _to_transformer_cfg(tower: TransformerConfig) -> dict[str, Any]:
    cfg: dict[str, Any] = {"width": tower.width, "mlp_ratio": _to_mlp_ratio(tower.width, tower.hidden)}
    if tower.activation == "gelu_tanh":
        cfg["act_kwargs"] = {"approximate": "tanh"}
    if tower.norm_eps != NormKwargs().eps:
        cfg["norm_kwargs"] = {"eps": tower.norm_eps}
    return cfg


def _to_mlp_ratio(width: int, mlp_width: int) -> float:
    """Return the ratio from which open_clip, which truncates the product, computes `mlp_width`."""
    ratio = mlp_width / width
    while int(width * ratio) < mlp_width:
        ratio = math.nextafter(ratio, math.inf)
    return ratio


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
