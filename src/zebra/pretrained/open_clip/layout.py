"""Model folders in open_clip's layout: `open_clip_config.json` and weights.

Reference for file names and tokenizers: `factory.py` of open_clip 3.3.0.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from zebra.config.image_towers import NaflexVisionConfig, SiglipVisionConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import BertTextConfig, SiglipTextConfig
from zebra.errors import ConfigError, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.pretrained.checkpoint import PretrainedCheckpoint
from zebra.pretrained.folder import write_json
from zebra.pretrained.open_clip.config import parse_open_clip_config, to_open_clip_config
from zebra.pretrained.open_clip.hf_text import convert_hf_text
from zebra.pretrained.open_clip.timm import convert_from_timm, convert_to_timm
from zebra.pretrained.tensors import read_tensors, write_tensors
from zebra.pretrained.transformers import write_tokenizer
from zebra.pretrained.weight_files import OPEN_CLIP_CONFIG, OPEN_CLIP_SAFETENSORS, OPEN_CLIP_WEIGHTS, list_weight_files
from zebra.pretrained.weights import TEXT_PREFIX
from zebra.text.clip_vocabulary import is_openai_vocabulary
from zebra.text.files import read_json_object
from zebra.text.tokenizers import Tokenizer

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
    raw = read_json_object(path)
    try:
        config, preprocess = parse_open_clip_config(raw)
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error
    weights = next((folder / name for name in OPEN_CLIP_WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise WeightsError(f"{folder} has no weights, such as {OPEN_CLIP_SAFETENSORS}. Copy the folder again.")
    tensors = read_tensors(weights)
    if isinstance(config.text, BertTextConfig):
        tensors = convert_hf_text(tensors, config.text, raw["model_cfg"]["text_cfg"], str(weights))
    return PretrainedCheckpoint(
        layout="open_clip",
        config=config,
        preprocess=preprocess,
        tensors=convert_from_open_clip(tensors, config, weights),
        files=(path, *list_weight_files(weights)),
    )


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
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        write_tokenizer(folder, tokenizer, context_length=config.text.context_length)
    if tokenizer is None or not _is_openai_tokenizer(folder / "tokenizer.json"):
        raw_config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = LOCAL_TOKENIZER_NAME
    write_json(folder / OPEN_CLIP_CONFIG, raw_config)
    converted = _convert_to_open_clip(tensors, config)
    write_tensors({name: tensor.contiguous() for name, tensor in converted.items()}, folder / OPEN_CLIP_SAFETENSORS)


def convert_from_open_clip(tensors: Mapping[str, Tensor], config: ModelConfig, path: Path) -> dict[str, Tensor]:
    """Return the tensors of an open_clip model under zebra's names on disk.

    Missing and unknown tensors are not detected here, but when the model is built.

    Raises:
        WeightsError: Two tensors get the same name; the message names `path`.
    """
    converted = {name.removeprefix(TEXT_PREFIX): tensor for name, tensor in tensors.items()}
    if len(converted) < len(tensors):
        raise WeightsError(
            f"{path} has two text towers, with and without the prefix {TEXT_PREFIX!r}. Download it again."
        )
    if isinstance(config.vision, SiglipVisionConfig | NaflexVisionConfig):
        converted = convert_from_timm(converted, config.vision.layers)
    # With `nonscalar_logit_scale`, open_clip stores these as vectors of one element.
    scalars = {name: converted[name].squeeze() for name in ("logit_scale", "logit_bias") if name in converted}
    return converted | scalars


def _convert_to_open_clip(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    converted = dict(tensors)
    if isinstance(config.vision, SiglipVisionConfig):
        converted = convert_to_timm(converted, config.vision.layers)
    if isinstance(config.text, SiglipTextConfig):
        unprefixed = ("visual.", "logit_")
        converted = {
            name if name.startswith(unprefixed) else TEXT_PREFIX + name: tensor for name, tensor in converted.items()
        }
    return converted


def _is_openai_tokenizer(path: Path) -> bool:
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    if model["type"] != "BPE":
        return False
    return is_openai_vocabulary(model["merges"])
