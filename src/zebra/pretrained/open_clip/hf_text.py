"""Text towers of open_clip that are encoders of transformers (`hf_model_name`).

Reference: `HFTextEncoder` in `hf_model.py` of open_clip 3.3.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor

from zebra.config.structure import structure
from zebra.config.text_towers import BertPooling, BertTextConfig, TextTowerConfig
from zebra.errors import show_value
from zebra.pretrained.bert import parse_bert_config, take_bert_tensors
from zebra.pretrained.open_clip.hf_configs import read_encoder_config
from zebra.pretrained.open_clip.library_text import LIBRARY_TEXT_TYPES, parse_library_text
from zebra.pretrained.open_clip.schema import FIXED_VALUES, IGNORED_KEYS, CLIPTextCfg, unsupported_key_error

WHERE = "model_cfg.text_cfg"
_ENCODER_PREFIX, _PROJECTION_PREFIX = "text.transformer.", "text.proj."
_POOLINGS: dict[str | None, BertPooling] = {
    "mean_pooler": "mean",
    "cls_pooler": "pooler",
    "cls_last_hidden_state_pooler": "cls",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HFTextCfg:
    """The keys of `text_cfg` that such a tower depends on."""

    hf_model_name: str
    hf_proj_type: Literal["linear", "mlp"] | None = "mlp"
    hf_pooler_type: str | None = "mean_pooler"
    context_length: int = 77


def is_hf_text(raw: object) -> bool:
    """Return whether a `text_cfg` names an encoder of transformers."""
    return isinstance(raw, Mapping) and raw.get("hf_model_name") is not None


def parse_hf_text(raw: Mapping[str, Any], embed_dim: int) -> TextTowerConfig:
    """Convert a `text_cfg` with `hf_model_name`; such a tower ignores the settings of open_clip's own towers.

    Raises:
        ConfigError: zebra does not support the encoder, its pooling or its projection, or does not know its config.
    """
    supported = {field.name for field in fields(HFTextCfg)}
    ignored = {field.name for field in fields(CLIPTextCfg)} | {*FIXED_VALUES[WHERE], *IGNORED_KEYS[WHERE]}
    for key, value in raw.items():
        if key not in supported | ignored or (key == "output_tokens" and value):
            raise unsupported_key_error(f"{WHERE}.{key}", value)
    cfg = structure(HFTextCfg, {key: value for key, value in raw.items() if key in supported}, WHERE)
    encoder = read_encoder_config(cfg.hf_model_name)
    where = f"{WHERE}.hf_model_name ({show_value(cfg.hf_model_name)})"
    if encoder.get("model_type") in LIBRARY_TEXT_TYPES:
        return parse_library_text(
            encoder,
            where,
            pooler=cfg.hf_pooler_type,
            projection=cfg.hf_proj_type,
            context_length=cfg.context_length,
            embed_dim=embed_dim,
        )
    pooling = _POOLINGS.get(cfg.hf_pooler_type)
    if cfg.hf_pooler_type is None:  # open_clip's default by model type; BERT then has no dense layer
        pooling = "cls" if encoder.get("model_type") == "bert" else "mean"
    # open_clip's own registry has no DistilBERT and no CamemBERT.
    is_known = encoder.get("model_type") in ("bert", "roberta", "xlm-roberta")
    if pooling is None or not is_known:
        raise unsupported_key_error(
            f"{WHERE}.hf_model_name, hf_pooler_type", (cfg.hf_model_name, encoder.get("model_type"), cfg.hf_pooler_type)
        )
    text = parse_bert_config(
        encoder, where, context_length=cfg.context_length, pooling=pooling, projection=cfg.hf_proj_type or "none"
    )
    if text.projection == "none" and text.width != embed_dim:  # open_clip builds no projection and fails
        raise unsupported_key_error(f"{WHERE}.hf_proj_type", cfg.hf_proj_type)
    return text


def convert_hf_text(
    tensors: Mapping[str, Tensor], config: BertTextConfig, raw: Mapping[str, Any], where: str
) -> dict[str, Tensor]:
    """Return the tensors with the text tower under zebra's names; those of the image tower are unchanged.

    Args:
        raw: The `text_cfg` of the tower.
        where: Name of the file in error messages.

    Raises:
        WeightsError: A tensor of the encoder is missing or has another shape than the config implies.
    """
    remaining = dict(tensors)
    encoder = read_encoder_config(raw["hf_model_name"])
    converted = take_bert_tensors(remaining, config, encoder, _ENCODER_PREFIX, where)
    for name, tensor in remaining.items():
        is_projection = name.startswith(_PROJECTION_PREFIX)
        part = name.removeprefix(_PROJECTION_PREFIX)
        converted[f"text_projection.{part}" if is_projection else name] = tensor
    return converted
