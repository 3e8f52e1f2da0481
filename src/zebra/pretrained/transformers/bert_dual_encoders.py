"""Dual encoders of transformers with a text tower of the BERT family.

The image tower is CLIP's. `ChineseCLIPModel` projects the first token of BERT. `AltCLIPModel` normalizes the first
token of XLM-R and projects it twice; zebra multiplies the two matrices. `VisionTextDualEncoderModel` projects the
output of BERT's or RoBERTa's dense layer with tanh.

Reference: the models and configs of transformers 5.24.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from zebra.config.model import ModelConfig
from zebra.config.structure import structure, unstructure
from zebra.config.text_towers import BertTextConfig
from zebra.errors import ConfigError, WeightsError, show_value
from zebra.pretrained.bert import parse_bert_config, take_bert_tensors
from zebra.pretrained.transformers.config import JsonDict, parse_clip_vision, read_section
from zebra.pretrained.transformers.key_mapping import convert_from_transformers

_VISION_PREFIX = "vision_model."
_VISION_MODEL_TYPES = ("chinese_clip_vision_model", "altclip_vision_model", "clip_vision_model")
"""Configs of CLIP's image tower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _DualEncoder:
    """What distinguishes a model type."""

    encoder: JsonDict = field(default_factory=dict)
    """What `text_config` lacks for a config of a BERT, RoBERTa or XLM-R encoder."""
    prefix: str = "text_model."
    """Prefix of the encoder's tensors."""
    embed_dim: int = 512
    """Default of `projection_dim`."""
    head: JsonDict
    """Arguments of `parse_bert_config`."""


_DUAL_ENCODERS = {
    "chinese_clip": _DualEncoder(encoder={"model_type": "bert"}, head={"pooling": "cls"}),
    "altclip": _DualEncoder(
        encoder={
            "model_type": "xlm-roberta", "vocab_size": 250_002, "hidden_size": 1024, "intermediate_size": 4096,
            "num_hidden_layers": 24, "num_attention_heads": 16, "max_position_embeddings": 514, "layer_norm_eps": 1e-5,
            "type_vocab_size": 1,
        },
        prefix="text_model.roberta.",
        embed_dim=768,
        head={"pooling": "cls", "projection_bias": True, "projection_norm": True},
    ),
    "vision-text-dual-encoder": _DualEncoder(head={"pooling": "pooler"}),
}  # fmt: skip
BERT_MODEL_TYPES = tuple(_DUAL_ENCODERS)


def parse_bert_dual_encoder(raw: JsonDict, path: Path) -> ModelConfig:
    """Convert the contents of a config.json with one of the BERT_MODEL_TYPES.

    Raises:
        WeightsError: zebra does not support a setting exactly.
    """
    dual = _DUAL_ENCODERS[raw["model_type"]]
    vision = read_section(raw, "vision_config", {}, path)
    vision_type = vision.get("model_type", _VISION_MODEL_TYPES[0])
    if vision_type not in _VISION_MODEL_TYPES:
        raise WeightsError(
            f"{path}: vision_config.model_type is {show_value(vision_type)}. In a {raw['model_type']} model, zebra "
            f"supports {', '.join(_VISION_MODEL_TYPES)}."
        )
    image_size, tower = parse_clip_vision(raw, path)
    try:
        text = parse_bert_config(_encoder_config(raw, path), f"{path}: text_config", projection="linear", **dual.head)
        config = {
            "embed_dim": raw.get("projection_dim") or dual.embed_dim,
            "image_size": image_size,
            "vision": tower,
            "text": unstructure(text),
        }
        return structure(ModelConfig, config, "model")
    except ConfigError as error:
        raise WeightsError(f"{path} describes a model that zebra does not support: {error}") from error


def convert_bert_dual_encoder(
    tensors: Mapping[str, Tensor], raw: JsonDict, config: ModelConfig, path: Path, weights: Path
) -> dict[str, Tensor]:
    """Return the tensors of both towers under zebra's names on disk.

    Args:
        raw: The contents of the config.json `path`.
        config: The result of `parse_bert_dual_encoder`.

    Raises:
        WeightsError: A tensor is missing, unknown, or of another shape than the config implies.
    """
    dual, where = _DUAL_ENCODERS[raw["model_type"]], str(weights)
    assert isinstance(config.text, BertTextConfig)
    remaining = {_normalize_name(name): tensor for name, tensor in tensors.items()}
    converted = take_bert_tensors(remaining, config.text, _encoder_config(raw, path), dual.prefix, where)
    projection_EP = _take(remaining, "text_projection.weight", where)
    if config.text.projection_norm:
        for part in ("weight", "bias"):
            converted[f"ln_final.{part}"] = _take(remaining, f"text_model.pre_LN.{part}", where)
        weight_PD, bias_P = (
            _take(remaining, f"text_model.transformation.{part}", where) for part in ("weight", "bias")
        )
        try:
            converted["text_projection.bias"] = (projection_EP.double() @ bias_P.double()).float()
            projection_EP = (projection_EP.double() @ weight_PD.double()).float()
        except RuntimeError as error:
            raise WeightsError(
                f"{where}: the shapes of text_projection and text_model.transformation do not fit ({error}). Copy the "
                "folder again."
            ) from error
    converted["text_projection.weight"] = projection_EP
    return converted | convert_from_transformers(remaining, config, where)


def _encoder_config(raw: JsonDict, path: Path) -> JsonDict:
    """Return `text_config` as the config of a plain encoder."""
    dual = _DUAL_ENCODERS[raw["model_type"]]
    settings = read_section(raw, "text_config", dual.encoder, path)
    return settings | ({"model_type": dual.encoder["model_type"]} if dual.encoder else {})


def _normalize_name(name: str) -> str:
    """Return the usual name of a tensor: that of transformers 5 for CLIP's image tower.

    Version 4 nested the image tower of a `VisionTextDualEncoderModel`; version 5.24 saves AltCLIP's blocks as `layer`.
    """
    name = name.replace(f"{_VISION_PREFIX}{_VISION_PREFIX}", _VISION_PREFIX, 1)
    return name.replace(f"{_VISION_PREFIX}encoder.layer.", f"{_VISION_PREFIX}encoder.layers.", 1)


def _take(tensors: dict[str, Tensor], name: str, where: str) -> Tensor:
    if name not in tensors:
        raise WeightsError(f"{where} lacks the tensor {name}. Use the config of these weights.")
    return tensors.pop(name)
