"""Conversion between `open_clip_config.json` and zebra's config and preprocessing.

Reference for the keys: `model.py` and `transform.py` of open_clip 3.3.0.
"""

from collections.abc import Mapping
from typing import Any

from zebra.config.image_towers import NaflexVisionConfig
from zebra.config.model import ModelConfig
from zebra.config.transformer import TransformerConfig
from zebra.errors import ConfigError, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.pretrained.open_clip.hf_text import is_hf_text, parse_hf_text
from zebra.pretrained.open_clip.image_towers import is_built_by_timm, parse_side, parse_vision, to_vision_cfg
from zebra.pretrained.open_clip.schema import (
    CLIPTextCfg,
    CLIPVisionCfg,
    ModelCfg,
    PreprocessCfg,
    parse_section,
    unsupported_key_error,
)
from zebra.pretrained.open_clip.text_towers import CUSTOM_TEXT_CONFIGS, parse_text, to_text_cfg


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
    return config, _parse_preprocess(raw.get("preprocess_cfg") or {}, config)


def to_open_clip_config(config: ModelConfig, preprocess: Preprocess) -> dict[str, Any]:
    """Return the contents of the file for a model, without the name of its tokenizer.

    Raises:
        WeightsError: open_clip cannot build the model; the message gives the reason.
    """
    if preprocess.resize_size is not None or preprocess.interpolation == "nearest":
        raise WeightsError(
            f"open_clip cannot resize to {preprocess.resize_size or preprocess.image_size} pixels by "
            f"{preprocess.interpolation} before a crop of {preprocess.image_size}. Use --format zebra."
        )
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
    image_size = parse_side("image_size", vision.image_size)
    return ModelConfig(
        embed_dim=model.embed_dim,
        image_size=image_size,
        vision=parse_vision(vision, image_size, quick_gelu=model.quick_gelu),
        text=parse_hf_text(raw["text_cfg"], model.embed_dim)
        if is_hf_text(raw["text_cfg"])
        else parse_text(parse_section(CLIPTextCfg, raw["text_cfg"], "model_cfg.text_cfg"), quick_gelu=model.quick_gelu),
        logit_bias=model.init_logit_bias is not None,
    )


def _parse_preprocess(raw: object, config: ModelConfig) -> Preprocess:
    """Convert `preprocess_cfg`.

    A NaFlex tower gets images as in open_clip's NaFlex evaluation (`aug_cfg` with `naflex`): at most as many patches as
    its positions, whatever `resize_mode` says.
    """
    if isinstance(raw, Mapping):  # null means the default
        raw = {key: value for key, value in raw.items() if value is not None}
    cfg = parse_section(PreprocessCfg, raw, "preprocess_cfg")
    resize: dict[str, Any] = {"resize": cfg.resize_mode}
    if isinstance(config.vision, NaflexVisionConfig):
        side = config.vision.patch_size
        max_num_patches = (config.image_size // side) ** 2
        resize = {"resize": "naflex", "patch_size": side, "max_num_patches": max_num_patches}
    return Preprocess(
        image_size=config.image_size,
        **resize,
        # "random" applies to training only; the evaluation transform is then bicubic.
        interpolation="bilinear" if cfg.interpolation == "bilinear" else "bicubic",
        crop="half_even",
        rgb="last",
        mean=cfg.mean,
        std=cfg.std,
        decode="reference",
    )


def _to_model_cfg(config: ModelConfig) -> dict[str, Any]:
    towers = {"vision_cfg": to_vision_cfg(config), "text_cfg": to_text_cfg(config.text)}
    model_cfg: dict[str, Any] = {"embed_dim": config.embed_dim}
    if _has_quick_gelu(config):
        model_cfg["quick_gelu"] = True
    if config.logit_bias:
        model_cfg["init_logit_bias"] = -10.0
    if isinstance(config.text, CUSTOM_TEXT_CONFIGS):
        model_cfg["custom_text"] = True
    return model_cfg | towers


def _has_quick_gelu(config: ModelConfig) -> bool:
    """Return whether both towers use QuickGELU; WeightsError if only one does, as the file has one flag."""
    activations = {
        tower.activation
        for tower in (config.vision, config.text)
        if isinstance(tower, TransformerConfig) and not is_built_by_timm(tower)  # timm's names have an activation
    }
    if "quick_gelu" in activations and len(activations) > 1:
        raise WeightsError(
            f"the towers use {' and '.join(sorted(activations))}, but open_clip supports quick_gelu in both or "
            "neither. Use --format zebra."
        )
    return "quick_gelu" in activations
