"""Text towers in `open_clip_config.json`: causal, bidirectional and CoCa's."""

from typing import Any, Literal

from zebra.config.text_towers import BertTextConfig, CocaTextConfig, SiglipTextConfig, TextConfig, TextTowerConfig
from zebra.config.transformers_towers import TransformersTextConfig
from zebra.errors import WeightsError
from zebra.models.text.coca import PAD_ID
from zebra.pretrained.open_clip.blocks import parse_transformer, to_transformer_cfg
from zebra.pretrained.open_clip.schema import CLIPTextCfg, unsupported_key_error

CUSTOM_TEXT_CONFIGS = (SiglipTextConfig, CocaTextConfig)
"""Towers that are written as a module of their own (`custom_text`), whose tensors have the prefix `text.`"""


def parse_text(cfg: CLIPTextCfg, *, quick_gelu: bool) -> TextTowerConfig:
    """Convert `text_cfg`.

    Raises:
        ConfigError: zebra does not support the tower.
    """
    where = "model_cfg.text_cfg"
    settings = {
        "layers": cfg.layers,
        "heads": cfg.heads,
        "vocab_size": cfg.vocab_size,
        "context_length": cfg.context_length,
        **parse_transformer(cfg, where, quick_gelu=quick_gelu),
    }
    if cfg.no_causal_mask and not cfg.embed_cls:
        projection = _parse_projection(cfg, where)
        return SiglipTextConfig(
            pooling=_parse_bidirectional_pooling(cfg, where),
            projection=projection,
            projection_bias=cfg.proj_bias or projection == "none",
            **settings,
        )
    for key, plain in (("no_causal_mask", False), ("proj_type", "linear"), ("proj_bias", False)):
        if getattr(cfg, key) != plain:
            raise unsupported_key_error(f"{where}.{key}", getattr(cfg, key))
    if cfg.embed_cls:  # then open_clip ignores pool_type
        if cfg.pad_id != PAD_ID:
            raise unsupported_key_error(f"{where}.pad_id", cfg.pad_id)
        return CocaTextConfig(**settings)
    if cfg.pool_type not in ("argmax", "eos"):
        raise unsupported_key_error(f"{where}.pool_type", cfg.pool_type)
    return TextConfig(eos_id=cfg.eos_id if cfg.pool_type == "eos" else None, **settings)


def to_text_cfg(text: TextTowerConfig) -> dict[str, Any]:
    """Return `text_cfg` for a text tower.

    Raises:
        WeightsError: open_clip cannot build the tower from a folder.
    """
    if isinstance(text, BertTextConfig | TransformersTextConfig):
        raise WeightsError(
            "open_clip builds text towers of transformers from a config on the hub, which a folder cannot contain. "
            "Use --format zebra."
        )
    cfg = {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "heads": text.heads,
        "layers": text.layers,
        **to_transformer_cfg(text),
    }
    match text:
        case TextConfig(eos_id=int(eos_id)):
            return cfg | {"pool_type": "eos", "eos_id": eos_id}
        case CocaTextConfig():
            return cfg | {"embed_cls": True, "pad_id": PAD_ID}
        case SiglipTextConfig(projection="none"):
            return cfg | {"no_causal_mask": True, "pool_type": text.pooling, "proj_type": "none"}
        case SiglipTextConfig():
            return cfg | {"no_causal_mask": True, "pool_type": text.pooling, "proj_bias": text.projection_bias}
    return cfg


def _parse_bidirectional_pooling(cfg: CLIPTextCfg, where: str) -> Literal["last", "argmax"]:
    match cfg.pool_type:
        case "last" | "argmax":
            return cfg.pool_type
    raise unsupported_key_error(f"{where}.pool_type", cfg.pool_type)


def _parse_projection(cfg: CLIPTextCfg, where: str) -> Literal["linear", "none"]:
    match cfg.proj_type:
        case "linear" | "none":
            return cfg.proj_type
    raise unsupported_key_error(f"{where}.proj_type", cfg.proj_type)
