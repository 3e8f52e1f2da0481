"""Conversion between transformers' config.json and zebra's model config.

Reference: the configuration classes of transformers 5.24 and the models that use them.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from zebra.config.image_towers import ImageTowerConfig, NaflexVisionConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.structure import structure
from zebra.config.text_towers import BertTextConfig, SiglipTextConfig, TextConfig, TextTowerConfig
from zebra.config.transformer import Activation, TransformerConfig
from zebra.errors import ConfigError, WeightsError, show_value
from zebra.pretrained.transformers.fg_clip import MODEL_TYPE as FG_CLIP
from zebra.text.files import read_json_object

JsonDict = dict[str, Any]
ModelType = Literal["clip", "metaclip_2", "siglip", "siglip2"]

ARCHITECTURES: dict[ModelType, str] = {
    "clip": "CLIPModel",
    "metaclip_2": "MetaClip2Model",
    "siglip": "SiglipModel",
    "siglip2": "Siglip2Model",
}
CLIP_TYPES = ("clip", "metaclip_2")
"""Model types with CLIP's towers."""
ACTIVATIONS: dict[str, Activation] = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}
VISION_KINDS: dict[ModelType, str] = {"clip": "vit", "metaclip_2": "vit", "siglip": "siglip", "siglip2": "naflex"}
"""Kind of the image tower in zebra."""
LEGACY_EOS_ID = 2
"""An `eos_token_id` of `clip` that means: pool at the largest id. Configs from before 2023 have it, also those of
OpenAI. MetaCLIP 2 has this id, too, and pools there."""

# Defaults of transformers for keys that are missing in config.json.
_CLIP_TEXT_DEFAULTS: JsonDict = {
    "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
    "max_position_embeddings": 77, "vocab_size": 49_408, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    "eos_token_id": 49_407,
}  # fmt: skip
_CLIP_VISION_DEFAULTS: JsonDict = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32, "num_channels": 3, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_SIGLIP_TEXT_DEFAULTS: JsonDict = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "max_position_embeddings": 64, "vocab_size": 32_000, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
}  # fmt: skip
_SIGLIP_VISION_DEFAULTS: JsonDict = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 16, "num_channels": 3, "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6, "vision_use_head": True, "num_patches": 256,
}  # fmt: skip
_DEFAULTS: dict[ModelType, tuple[JsonDict, JsonDict]] = {
    "clip": (_CLIP_TEXT_DEFAULTS, _CLIP_VISION_DEFAULTS),
    "metaclip_2": (_CLIP_TEXT_DEFAULTS, _CLIP_VISION_DEFAULTS),
    "siglip": (_SIGLIP_TEXT_DEFAULTS, _SIGLIP_VISION_DEFAULTS),
    "siglip2": (_SIGLIP_TEXT_DEFAULTS, _SIGLIP_VISION_DEFAULTS),
}


def read_transformers_config(path: Path) -> tuple[ModelType, ModelConfig]:
    """Read the config.json of a model of the types ARCHITECTURES, or of FG-CLIP.

    Raises:
        WeightsError: The file is damaged, or describes a model that zebra does not support exactly.
    """
    raw = read_json_object(path)
    model_type: ModelType = "clip" if raw["model_type"] == FG_CLIP else raw["model_type"]
    return model_type, _parse_config(raw, model_type, path)


def infer_model_type(config: ModelConfig) -> ModelType:
    """Return the model type of transformers that can represent a model.

    Raises:
        WeightsError: There is none; the message names the layouts that can represent it.
    """
    vision, text = config.vision, config.text
    if _is_clip_vit(vision) and isinstance(text, TextConfig) and not config.logit_bias:
        return "clip" if text.eos_id is None else "metaclip_2"
    if isinstance(vision, SiglipVisionConfig) and _is_siglip_text(text) and config.logit_bias:
        return "siglip"
    if isinstance(vision, NaflexVisionConfig) and _is_siglip_text(text) and config.logit_bias:
        return "siglip2"
    if isinstance(text, BertTextConfig):
        raise WeightsError(
            "zebra does not write text towers of the BERT family in the layout of transformers. Use --format zebra or "
            "--format onnx."
        )
    formats = "zebra" if isinstance(vision, NaflexVisionConfig) else "open_clip or --format zebra"
    raise WeightsError(
        f"transformers has no model with a {vision.kind} image tower, a {text.kind} text tower and "
        f"{'a' if config.logit_bias else 'no'} logit bias of these settings: {vision.describe(config.image_size)}; "
        f"{text.describe()}. Use --format {formats}."
    )


def _is_clip_vit(vision: ImageTowerConfig) -> bool:
    return (
        isinstance(vision, VisionTransformerConfig)
        and vision.pre_norm
        and vision.pooling == "class"
        and not vision.patch_bias
        and not vision.projection_bias
    )


def _is_siglip_text(text: TextTowerConfig) -> bool:
    return (
        isinstance(text, SiglipTextConfig)
        and text.pooling == "last"
        and text.projection == "linear"
        and text.projection_bias
    )


def is_transformers_model(config: ModelConfig) -> bool:
    """Return whether transformers can represent a model."""
    try:
        infer_model_type(config)
    except WeightsError:
        return False
    return True


def to_transformers_config(config: ModelConfig, special_token_ids: dict[str, int]) -> JsonDict:
    """Return config.json for a model.

    Args:
        special_token_ids: The tokenizer's `bos_token_id`, `eos_token_id` and `pad_token_id`, where it has them.

    Raises:
        WeightsError: transformers cannot represent the model.
    """
    model_type, vision, text = infer_model_type(config), config.vision, config.text
    assert isinstance(vision, VisionTransformerConfig | SiglipVisionConfig | NaflexVisionConfig)
    assert isinstance(text, TextConfig | SiglipTextConfig)
    is_clip = model_type in CLIP_TYPES
    projection = {"projection_dim": config.embed_dim} if is_clip else {}
    if model_type == "siglip2":
        input_size = {"num_patches": (config.image_size // vision.patch_size) ** 2}
    else:
        input_size = {"image_size": config.image_size}
    return {
        "architectures": [ARCHITECTURES[model_type]],
        "model_type": model_type,
        "torch_dtype": "float32",
        **projection,
        "text_config": {
            "model_type": f"{model_type}_text_model",
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "projection_dim" if is_clip else "projection_size": config.embed_dim,
            "bos_token_id": None,  # the default of transformers is an id that small vocabularies lack
            **special_token_ids,
            **({"eos_token_id": text.eos_id} if isinstance(text, TextConfig) and text.eos_id is not None else {}),
            **_to_transformers_tower(text),
        },
        "vision_config": {
            "model_type": f"{model_type}_vision_model",
            **input_size,
            "patch_size": vision.patch_size,
            **projection,
            **_to_transformers_tower(vision),
        },
    }


def require_eos_is_last_id(eos_token_id: object, vocab_size: object, where: str) -> None:
    """Require the end token to be the largest id: transformers pools at the end token, zebra at the largest id.

    Raises:
        WeightsError: It is not, so the vectors would differ.
    """
    if not isinstance(eos_token_id, int) or not isinstance(vocab_size, int) or eos_token_id != vocab_size - 1:
        raise WeightsError(
            f"{where}: the end token has id {show_value(eos_token_id)} in a vocabulary of {show_value(vocab_size)}. "
            "transformers pools at the end token, zebra at the largest id, so the vectors would differ. The end token "
            "must have the last id."
        )


def parse_positive_int(number: object, name: str, path: Path) -> int:
    """Return `number`; WeightsError if it is not a positive integer."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise WeightsError(f"{path}: {name} must be a positive integer, not {show_value(number)}. Copy the file again.")
    return number


def parse_grid_size(num_patches: object, name: str, path: Path) -> int:
    """Return the side of a square grid of patches; WeightsError if their number is not a square."""
    root = math.isqrt(parse_positive_int(num_patches, name, path))
    if root * root != num_patches:
        raise WeightsError(
            f"{path}: {name} is {num_patches}, not a square number. zebra supports square grids of patches only."
        )
    return root


def parse_clip_vision(raw: JsonDict, path: Path) -> tuple[object, JsonDict]:
    """Return the image size and the settings of CLIP's image tower in a config.json, for `structure`.

    Raises:
        WeightsError: zebra does not support the tower exactly.
    """
    vision = read_section(raw, "vision_config", _CLIP_VISION_DEFAULTS, path)
    _require_three_channels(vision, path)
    patch_size = _parse_side(vision["patch_size"])
    return _parse_side(vision["image_size"]), {"kind": "vit", "patch_size": patch_size, **_parse_tower(vision, path)}


def _parse_config(raw: JsonDict, model_type: ModelType, path: Path) -> ModelConfig:
    text_defaults, vision_defaults = _DEFAULTS[model_type]
    text = read_section(raw, "text_config", text_defaults, path)
    vision = read_section(raw, "vision_config", vision_defaults, path)
    patch, size = _parse_side(vision["patch_size"]), _parse_side(vision["image_size"])
    _require_three_channels(vision, path)
    if not vision.get("vision_use_head", True):
        raise WeightsError(
            f"{path}: vision_config.vision_use_head is false. zebra supports image towers with a pool only."
        )
    if model_type == "siglip2":
        grid = parse_grid_size(vision["num_patches"], "vision_config.num_patches", path)
        size = grid * parse_positive_int(patch, "vision_config.patch_size", path)
    is_clip = model_type in CLIP_TYPES
    raw_config = {
        "embed_dim": (raw.get("projection_dim") or 512)
        if is_clip
        else text.get("projection_size", text["hidden_size"]),
        "image_size": size,
        "vision": {"kind": VISION_KINDS[model_type], "patch_size": patch, **_parse_tower(vision, path)},
        "text": {
            "kind": "causal" if is_clip else "siglip",
            "vocab_size": text["vocab_size"],
            "context_length": text["max_position_embeddings"],
            **({"eos_id": text["eos_token_id"]} if is_clip else {}),
            **_parse_tower(text, path),
        },
        "logit_bias": not is_clip,
    }
    try:
        config = structure(ModelConfig, raw_config, "model")
    except ConfigError as error:
        raise WeightsError(f"{path} describes an invalid model: {error}") from error
    if model_type == "clip" and isinstance(config.text, TextConfig):
        is_largest = config.text.eos_id in (LEGACY_EOS_ID, config.text.vocab_size - 1)
        config = replace(config, text=replace(config.text, eos_id=None)) if is_largest else config
    return config


def read_section(raw: JsonDict, name: str, defaults: JsonDict, path: Path) -> JsonDict:
    """Return the settings of a tower. As in transformers, `<name>_dict` of early CLIP configs takes precedence."""
    section = raw.get(f"{name}_dict")
    section = raw.get(name) if section is None else section
    if not isinstance(section, dict | None):
        raise WeightsError(f"{path}: {name} must be a JSON object, not {show_value(section)}. Copy the file again.")
    return defaults | {key: value for key, value in (section or {}).items() if value is not None}


def _require_three_channels(vision: JsonDict, path: Path) -> None:
    if vision["num_channels"] != 3:
        raise WeightsError(
            f"{path}: vision_config.num_channels is {show_value(vision['num_channels'])}. zebra supports 3 channels "
            "only."
        )


def _parse_tower(section: JsonDict, path: Path) -> JsonDict:
    activation, width, mlp_width = section["hidden_act"], section["hidden_size"], section["intermediate_size"]
    if activation not in list(ACTIVATIONS):  # a list, because the value in the file may not be hashable
        raise WeightsError(
            f"{path}: hidden_act {show_value(activation)} is not supported. zebra supports {', '.join(ACTIVATIONS)}."
        )
    return {
        "width": width,
        "layers": section["num_hidden_layers"],
        "heads": section["num_attention_heads"],
        "mlp_width": None if isinstance(width, int) and mlp_width == 4 * width else mlp_width,
        "activation": ACTIVATIONS[activation],
        "norm_eps": section["layer_norm_eps"],
    }


def _parse_side(size: object) -> object:
    """Return one number for a pair of equal sides; anything else unchanged."""
    return size[0] if isinstance(size, list) and len(size) == 2 and size[0] == size[1] else size


def _to_transformers_tower(tower: TransformerConfig) -> JsonDict:
    return {
        "hidden_size": tower.width,
        "intermediate_size": tower.hidden,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "hidden_act": next(name for name, zebra_name in ACTIVATIONS.items() if zebra_name == tower.activation),
        "layer_norm_eps": tower.norm_eps,
    }
