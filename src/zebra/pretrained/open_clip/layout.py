"""Model folders in open_clip's layout: `open_clip_config.json` and weights.

Reference for file names and tokenizers: `factory.py` of open_clip 3.3.0.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from zebra.config.image_towers import NaflexVisionConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import BertTextConfig, CocaTextConfig, SiglipTextConfig
from zebra.config.timm_tower import TimmVisionConfig
from zebra.config.transformers_towers import TransformersTextConfig
from zebra.errors import ConfigError, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.pretrained.checkpoint import PretrainedCheckpoint
from zebra.pretrained.folder import write_json
from zebra.pretrained.open_clip.config import parse_open_clip_config, to_open_clip_config
from zebra.pretrained.open_clip.hf_text import convert_hf_text
from zebra.pretrained.open_clip.image_towers import is_built_by_timm
from zebra.pretrained.open_clip.library_text import drop_position_table
from zebra.pretrained.open_clip.text_towers import CUSTOM_TEXT_CONFIGS
from zebra.pretrained.open_clip.timm import convert_from_timm, convert_to_timm
from zebra.pretrained.open_clip.timm_towers import require_native_image_size
from zebra.pretrained.open_clip.timm_vit import convert_vit_from_timm, convert_vit_to_timm
from zebra.pretrained.tensors import read_tensors, write_tensors
from zebra.pretrained.transformers.tokenizer import write_tokenizer
from zebra.pretrained.weight_files import (
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_SAFETENSORS,
    OPEN_CLIP_WEIGHTS,
    find_weights,
    list_weight_files,
)
from zebra.pretrained.weights import TEXT_PREFIX
from zebra.text.bpe import BPETokenizer
from zebra.text.clip_vocabulary import is_openai_vocabulary
from zebra.text.files import read_json_object
from zebra.text.hf_tokenizer import HFTokenizer
from zebra.text.tokenizers import Tokenizer

DECODER_PREFIX = "text_decoder."
"""Prefix of CoCa's decoder, which generates captions and has no influence on the vectors."""
QUERY = "visual.attn_pool.query"
LOCAL_TOKENIZER_NAME = "in this folder"
"""Name of any other tokenizer in the config. With `local-dir:`, open_clip reads the folder whatever the name is. This
name is no valid name on the hub, so that open_clip cannot download another tokenizer by it."""


def read_open_clip(folder: Path) -> PretrainedCheckpoint:
    """Read a folder that open_clip opens as `local-dir:FOLDER`.

    Raises:
        WeightsError: A file is missing or damaged, or the config has an unknown key or an unsupported value. Only keys
            that cannot change a vector are ignored.
    """
    path = folder / OPEN_CLIP_CONFIG
    raw, config, preprocess = read_open_clip_config(path)
    weights = find_weights(folder, OPEN_CLIP_WEIGHTS)
    tensors = read_tensors(weights)
    num_unused = sum(name.startswith(DECODER_PREFIX) for name in tensors)
    if isinstance(config.text, BertTextConfig):
        tensors = convert_hf_text(tensors, config.text, raw["model_cfg"]["text_cfg"], str(weights))
    if isinstance(config.text, TransformersTextConfig):
        tensors = drop_position_table(tensors)
    return PretrainedCheckpoint(
        layout="open_clip",
        config=config,
        preprocess=preprocess,
        tensors=convert_from_open_clip(tensors, config, weights),
        files=(path, *list_weight_files(weights)),
        unused=f"CoCa's decoder of captions ({num_unused} tensors)" if num_unused else "",
    )


def read_open_clip_config(path: Path) -> tuple[dict[str, Any], ModelConfig, Preprocess]:
    """Return the contents of an `open_clip_config.json`, as they are and in zebra's terms.

    Raises:
        WeightsError: The file is damaged, or has an unknown key or an unsupported value.
    """
    raw = read_json_object(path)
    try:
        return raw, *parse_open_clip_config(raw)
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error


def write_open_clip(
    folder: Path,
    *,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    preprocess: Preprocess,
    tokenizer: Tokenizer | None,
) -> None:
    """Write a folder that open_clip opens as `local-dir:FOLDER`, with the same vectors.

    Difference: the layout cannot express `Preprocess.crop`, `rgb` and `decode`. open_clip rounds halves to even,
    converts to RGB last and decodes with Pillow.

    Args:
        folder: Created if it does not exist; existing files of the same names are replaced.
        tensors: fp32, under zebra's names on disk.
        tokenizer: Without one, open_clip cannot create a tokenizer from the folder.

    Raises:
        WeightsError: open_clip cannot build this model; the message gives the reason. No file is written.
    """
    raw_config = to_open_clip_config(config, preprocess)
    if isinstance(config.vision, TimmVisionConfig):
        require_native_image_size(config.vision, tensors, config.embed_dim)
    _require_equal_padding(config, tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        write_tokenizer(folder, tokenizer, context_length=config.text.context_length)
    if tokenizer is None or not _is_openai_tokenizer(folder / "tokenizer.json"):
        raw_config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = LOCAL_TOKENIZER_NAME
    if isinstance(tokenizer, HFTokenizer) and tokenizer.cleaning in ("lower", "canonicalize"):
        # The steps in tokenizer.json do not know the Greek final sigma.
        raw_config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"clean": tokenizer.cleaning}
    write_json(folder / OPEN_CLIP_CONFIG, raw_config)
    converted = _convert_to_open_clip(tensors, config)
    write_tensors({name: tensor.contiguous() for name, tensor in converted.items()}, folder / OPEN_CLIP_SAFETENSORS)


def name_tokenizer_repo(config_path: Path, repo: str) -> dict[str, Any] | None:
    """Return an open_clip config whose tokenizer is looked up in a repository of the hub, instead of in its folder.

    open_clip finds the tokenizer of a `local-dir:` model in its folder; that of a `hf-hub:` model by this name.

    Returns:
        None if the config needs no change.
    """
    raw_config = read_json_object(config_path)
    text_config = raw_config.get("model_cfg", {}).get("text_cfg", {})
    if text_config.get("hf_tokenizer_name") != LOCAL_TOKENIZER_NAME:
        return None
    text_config["hf_tokenizer_name"] = repo
    return raw_config


def convert_from_open_clip(tensors: Mapping[str, Tensor], config: ModelConfig, path: Path) -> dict[str, Tensor]:
    """Return the tensors of an open_clip model under zebra's names on disk, without CoCa's decoder.

    Missing and unknown tensors are not detected here, but when the model is built.

    Raises:
        WeightsError: Two tensors get the same name; the message names `path`.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(DECODER_PREFIX)}
    converted = {name.removeprefix(TEXT_PREFIX): tensor for name, tensor in tensors.items()}
    if len(converted) < len(tensors):
        raise WeightsError(
            f"{path} has two text towers, with and without the prefix {TEXT_PREFIX!r}. Download it again."
        )
    match config.vision:
        case SiglipVisionConfig(layers=layers) | NaflexVisionConfig(layers=layers):
            converted = convert_from_timm(converted, layers)
        case VisionTransformerConfig(layers=layers):
            converted = convert_vit_from_timm(converted, layers)
    if QUERY in converted:
        converted[QUERY] = converted[QUERY][:1]  # the others are for the decoder
    # With `nonscalar_logit_scale`, open_clip stores these as vectors of one element.
    scalars = {name: converted[name].squeeze() for name in ("logit_scale", "logit_bias") if name in converted}
    return converted | scalars


def _convert_to_open_clip(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    converted = dict(tensors)
    match config.vision:
        case SiglipVisionConfig(layers=layers):
            converted = convert_to_timm(converted, layers)
        case VisionTransformerConfig(layers=layers) if is_built_by_timm(config.vision):
            converted = convert_vit_to_timm(converted, layers)
    if isinstance(config.text, CUSTOM_TEXT_CONFIGS):
        unprefixed = ("visual.", "logit_")
        converted = {
            name if name.startswith(unprefixed) else TEXT_PREFIX + name: tensor for name, tensor in converted.items()
        }
    return converted


def _require_equal_padding(config: ModelConfig, tokenizer: Tokenizer | None) -> None:
    """Refuse a tower whose vectors depend on the padding, with a tokenizer that open_clip pads with another id.

    open_clip pads with 0 with its own tokenizer only, which is OpenAI's.
    """
    text = config.text
    depends_on_padding = isinstance(text, CocaTextConfig) or (
        isinstance(text, SiglipTextConfig) and text.pooling == "argmax"
    )
    if not depends_on_padding or not isinstance(tokenizer, BPETokenizer):
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        tokenizer.save(path)
        if not _is_openai_tokenizer(path):
            raise WeightsError(
                "open_clip would pad texts of this tokenizer with its end token, not with 0, and this text tower "
                "attends to padding, so the vectors would differ. Use --format zebra."
            )


def _is_openai_tokenizer(path: Path) -> bool:
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    if model["type"] != "BPE":
        return False
    return is_openai_vocabulary(model["merges"])
