"""Dual encoders of the library: TIPSv2, ALIGN, AIMv2, GroupViT, FLAVA and BLIP.

Each model of the library is divided into its image half and its text half. What fuses images and texts (FLAVA's
multimodal encoder, BLIP's cross-attention and matching head) and what only pre-training uses is not read. The logits
are those of the library: TIPSv2 and ALIGN divide by a temperature, BLIP's retrieval model has plain cosines.

AIMv2's text tower is causal, as it was trained. In transformers 5.24 with its default attention, it is causal only in
batches with padding, so that the vector of a text depends on the other texts; `attn_implementation="eager"` avoids it.

BLIP-2 is refused: it represents an image by 32 vectors and scores a text by the largest of 32 similarities.

Reference: `get_image_features`, `get_text_features` and `forward` of the models in transformers 5.24.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zebra.config.model import ModelConfig
from zebra.config.transformers_towers import (
    EncoderPooling,
    EncoderProjection,
    TransformersTextConfig,
    TransformersVisionConfig,
    require_bounded_settings,
)
from zebra.errors import ConfigError, WeightsError, show_value
from zebra.images.preprocess import Preprocess
from zebra.models.transformers_encoder import complete_settings
from zebra.pretrained.transformers.tipsv2_keys import rename_tipsv2

JsonDict = dict[str, Any]

_COMPUTED_BUFFERS = re.compile(r"\.(position_ids|token_type_ids|num_batches_tracked)$")
"""Buffers that older versions saved with the weights."""


@dataclass(frozen=True, slots=True)
class _Half:
    """One tower in the library's model."""

    encoder: str
    """Name of the encoder in the model."""
    pooling: EncoderPooling
    projection: EncoderProjection = "none"
    projection_name: str = ""
    """Name of the projection in the model."""
    section: str = ""
    """Section of config.json; by default that of the encoder's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DualEncoder:
    """How a model of the library is divided into two towers."""

    model_type: str
    image: _Half
    text: _Half
    embed_dim: str
    """Setting of config.json that is the embedding dimension; in vision_config if the images have no projection."""
    scale: str = "logit_scale"
    """Name of the tensor that scales the logits; "" for none."""
    prefix: str = ""
    """Prefix of all tensors in the file that belong to the two towers."""
    unused: str = r"(?!)"
    """Names of tensors, without the prefix, that no embedding depends on."""
    unused_parts: str = ""
    """What `unused` is, for a warning; "" for what only pre-training uses."""


_FLAVA = DualEncoder(
    model_type="flava",
    image=_Half("image_model", "first", "linear_bias", "image_projection", "image_config"),
    text=_Half("text_model", "first", "linear_bias", "text_projection", "text_config"),
    embed_dim="projection_dim",
    unused=r"(image|text)_model\.pooler\.|image_model\.embeddings\.mask_token$|multimodal_model\."
    r"|(image|text)_to_mm_projection\.",
    unused_parts="FLAVA's multimodal encoder and its heads",
)
_FLAVA_PRE_TRAINING = DualEncoder(
    model_type="flava",
    image=_FLAVA.image,
    text=_FLAVA.text,
    embed_dim="projection_dim",
    prefix="flava.",
    unused=rf"{_FLAVA.unused}|(image_codebook|mim_head|mlm_head|itm_head|mmm_image_head|mmm_text_head)\.",
    unused_parts=_FLAVA.unused_parts,
)
_CROSS_ATTENTION = r"text_(model|encoder)\.encoder\.layer\.\d+\.crossattention\."
DUAL_ENCODERS = {
    "Tipsv2Model": DualEncoder(
        model_type="tipsv2",
        image=_Half("vision_model", "pooler"),
        text=_Half("text_model", "pooler"),
        embed_dim="hidden_size",
        scale="temperature",
        unused=r"vision_model\.embeddings\.mask_token$",
    ),
    "AlignModel": DualEncoder(
        model_type="align",
        image=_Half("vision_model", "pooler"),
        text=_Half("text_model", "first", "linear_bias", "text_projection"),
        embed_dim="projection_dim",
        scale="temperature",
        unused=r"text_model\.pooler\.",
    ),
    "Aimv2Model": DualEncoder(
        model_type="aimv2",
        image=_Half("vision_model", "pooler", "linear", "visual_projection"),
        text=_Half("text_model", "pooler", "linear", "text_projection"),
        embed_dim="projection_dim",
    ),
    "GroupViTModel": DualEncoder(
        model_type="groupvit",
        image=_Half("vision_model", "pooler", "batch_norm_mlp", "visual_projection"),
        text=_Half("text_model", "pooler", "batch_norm_mlp", "text_projection"),
        embed_dim="projection_dim",
    ),
    "FlavaModel": _FLAVA,
    "FlavaForPreTraining": _FLAVA_PRE_TRAINING,
    "BlipModel": DualEncoder(
        model_type="blip",
        image=_Half("vision_model", "pooler", "linear", "visual_projection"),
        text=_Half("text_model", "pooler", "linear", "text_projection"),
        embed_dim="projection_dim",
        unused=_CROSS_ATTENTION,
        unused_parts="BLIP's cross-attention of texts to images",
    ),
    "BlipForImageTextRetrieval": DualEncoder(
        model_type="blip",
        image=_Half("vision_model", "first", "linear_bias", "vision_proj"),
        text=_Half("text_encoder", "first", "linear_bias", "text_proj", "text_config"),
        embed_dim="image_text_hidden_size",
        scale="",
        unused=rf"{_CROSS_ATTENTION}|itm_head\.",
        unused_parts="BLIP's cross-attention of texts to images and its matching head",
    ),
}
"""The models of the library by class, as `architectures` of config.json names them."""
LIBRARY_MODEL_TYPES = tuple(dict.fromkeys(dual.model_type for dual in DUAL_ENCODERS.values()))


def match_dual_encoder(raw: JsonDict, path: Path) -> DualEncoder | None:
    """Return how the model of a config.json is divided; None for model types of other readers.

    Raises:
        WeightsError: The library has the model, but it is no dual encoder with one vector per image and text.
    """
    model_type = raw.get("model_type")
    if model_type == "blip-2":
        raise WeightsError(
            f"{path}: model_type blip-2 is not supported. BLIP-2 represents an image by several query vectors and "
            "takes the largest similarity to the text, so an image has no single embedding."
        )
    if model_type not in LIBRARY_MODEL_TYPES:
        return None
    classes = [name for name, dual in DUAL_ENCODERS.items() if dual.model_type == model_type]
    architectures = raw.get("architectures") or classes[:1]
    if not isinstance(architectures, list) or len(architectures) != 1 or architectures[0] not in classes:
        raise WeightsError(
            f"{path}: architectures is {show_value(architectures)}. Of {model_type}, zebra reads {', '.join(classes)}, "
            "which have embeddings of images and texts."
        )
    return DUAL_ENCODERS[architectures[0]]


def parse_dual_encoder(raw: JsonDict, dual: DualEncoder, preprocess: Preprocess, path: Path) -> ModelConfig:
    """Convert the contents of a config.json.

    Args:
        preprocess: Preprocessing of the model; its image size is that of a convolutional image tower.

    Raises:
        MissingExtra: transformers is not installed.
        WeightsError: The installed library or zebra does not support a setting.
    """
    try:
        require_bounded_settings(raw, "config.json")
        settings = complete_settings(raw)
        image, text = _section(settings, dual.image), _section(settings, dual.text)
        if dual.model_type == "align":
            del image["image_size"]  # nothing depends on it, and it is not the size of the processor
        _require_pooled(image)
        width = settings.get("projection_intermediate_dim")
        return ModelConfig(
            embed_dim=(settings if dual.embed_dim in settings else image)[dual.embed_dim],
            image_size=image.get("image_size", preprocess.image_size),
            vision=TransformersVisionConfig(
                settings=image,
                pooling=dual.image.pooling,
                projection=dual.image.projection,
                projection_width=width if dual.image.projection == "batch_norm_mlp" else None,
            ),
            text=TransformersTextConfig(
                settings=text,
                pooling=dual.text.pooling,
                projection=dual.text.projection,
                projection_width=width if dual.text.projection == "batch_norm_mlp" else None,
                vocab_size=text["vocab_size"],
                context_length=text["max_position_embeddings"],
                pad_id=_parse_pad_id(text),
            ),
        )
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error


def convert_dual_encoder(
    tensors: Mapping[str, Tensor], raw: JsonDict, dual: DualEncoder, where: Path
) -> dict[str, Tensor]:
    """Return the tensors of both towers under zebra's names on disk.

    Missing and unknown tensors are not detected here, but when the model is built.
    """
    tensors = rename_tipsv2(tensors) if dual.model_type == "tipsv2" else tensors
    unused = re.compile(dual.unused)
    names = {
        f"{dual.image.encoder}.": "visual.trunk.",
        f"{dual.text.encoder}.": "transformer.",
        f"{dual.image.projection_name}.": "visual.proj.",
        f"{dual.text.projection_name}.": "proj.",
    }
    converted = {"logit_scale": _logit_scale(tensors, raw, dual, where)}
    for full_name, tensor in tensors.items():
        name = full_name.removeprefix(dual.prefix)
        if name == dual.scale or unused.match(name) or _COMPUTED_BUFFERS.search(name):
            continue
        prefix = next((prefix for prefix in names if name.startswith(prefix)), "")
        converted[names.get(prefix, "") + name.removeprefix(prefix)] = tensor
    return converted


def _section(settings: JsonDict, half: _Half) -> JsonDict:
    return dict(settings[half.section or half.encoder.replace("_model", "_config")])


def _require_pooled(image: JsonDict) -> None:
    """Raise ConfigError for an AIMv2 image tower without a pooling head, or for images of any size."""
    for key, supported in (("use_head", True), ("is_native", False)):
        if image.get(key, supported) is not supported:
            raise ConfigError(f"vision_config.{key} is {show_value(image[key])}; zebra supports only {supported}")


def _parse_pad_id(text: JsonDict) -> int | None:
    """Return the padding token; None for the causal encoders, which pool at the end token."""
    if text["model_type"] not in ("aimv2_text_model", "groupvit_text_model"):
        pad_id = text.get("pad_token_id")
        if not isinstance(pad_id, int):
            raise ConfigError(f"text_config.pad_token_id is {show_value(pad_id)}; it must be an id")
        return pad_id
    end, vocab_size = text.get("eos_token_id"), text["vocab_size"]
    is_legacy = text["model_type"] == "groupvit_text_model" and end == 2  # the library pools at the largest id
    if end != vocab_size - 1 and not is_legacy:
        raise ConfigError(
            f"text_config.eos_token_id is {show_value(end)}, but the last id is {vocab_size - 1}. zebra supports texts "
            "that end at the largest id"
        )
    return None


def _logit_scale(tensors: Mapping[str, Tensor], raw: JsonDict, dual: DualEncoder, where: Path) -> Tensor:
    """Return the logarithm of the factor of the logits, fp32 []."""
    if not dual.scale:
        return torch.zeros(())
    name = dual.prefix + dual.scale
    value = tensors.get(name)
    if value is None and dual.model_type == "tipsv2":  # published without it
        value = torch.tensor(complete_settings(raw)["temperature_init_value"])
    if value is None or value.numel() != 1 or not value.is_floating_point():
        raise WeightsError(f"{where} lacks the scalar {name}. Copy the folder again.")
    scalar = value.float().reshape(())
    if dual.scale == "temperature":
        if not scalar > 0:
            raise WeightsError(f"{where}: the temperature is {float(scalar)}; it must be positive. Copy the folder.")
        return -scalar.log()
    # AIMv2 limits its scale in the forward pass.
    limit = raw.get("max_logit_scale", 100.0) if dual.model_type == "aimv2" else None
    return scalar if limit is None else scalar.clamp(0.0, math.log(limit))
