"""open_clip's folders, in and out: `open_clip_config.json` and weights ↔ zebra's config, preprocessing and tensors.

Which file is read and which tokenizer is made: `factory.py` of open_clip 3.3.0.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from zebra.config.model import ModelConfig, SiglipTextConfig, SiglipVisionConfig
from zebra.errors import ConfigError, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.pretrained.checkpoint import PretrainedCheckpoint
from zebra.pretrained.folder import read_json_object, write_json
from zebra.pretrained.open_clip.config import parse_open_clip_config, to_open_clip_config
from zebra.pretrained.open_clip.timm import convert_from_timm, convert_to_timm
from zebra.pretrained.tensors import list_weight_files, read_tensors
from zebra.pretrained.transformers import write_tokenizer
from zebra.pretrained.weights import TEXT_PREFIX
from zebra.text.tokenizers import Tokenizer

CONFIG_FILE = "open_clip_config.json"
SAFETENSORS_FILE = "open_clip_model.safetensors"
WEIGHT_FILES = (
    SAFETENSORS_FILE,
    f"{SAFETENSORS_FILE}.index.json",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.bin.index.json",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
)
"""Names of the weight file; the first that is there is read, in open_clip's order."""
OPENAI_MERGES_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"
"""sha256 of the merges of OpenAI's vocabulary, one "left right" per line: open_clip brings that tokenizer along."""
LOCAL_TOKENIZER_NAME = "in this folder"
"""What the config calls any other tokenizer. `local-dir:` takes every name to mean the folder; this one can be no hub
name, so that elsewhere it fails instead of fetching a stranger's."""


def read_open_clip(folder: Path) -> PretrainedCheckpoint:
    """Read a folder that open_clip opens as `local-dir:FOLDER`.

    Raises:
        WeightsError: A file is missing or damaged, or the config asks for something that zebra does not build or
            does not know: no key is passed over unless it cannot change a vector.
    """
    path = folder / CONFIG_FILE
    raw = read_json_object(path)
    try:
        config, preprocess = parse_open_clip_config(raw)
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if weights is None:
        raise WeightsError(f"{folder} holds no weights, such as {SAFETENSORS_FILE}; copy the folder again")
    return PretrainedCheckpoint(
        layout="open_clip",
        config=config,
        preprocess=preprocess,
        tensors=convert_from_open_clip(read_tensors(weights), config, weights),
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
    """Write a folder that open_clip opens as `local-dir:FOLDER`, with equal answers.

    Differs: the layout has no words for `Preprocess.crop`, `rgb` and `decode`; open_clip rounds halves to even,
    converts to RGB last and reads files as Pillow does.

    Args:
        folder: Made if need be; files of the same names are replaced.
        config: Of a model that open_clip can build.
        tensors: fp32, under zebra's names on disk.
        preprocess: How the model's pictures are prepared.
        tokenizer: The model's own; without one, open_clip refuses to make a tokenizer for the folder.

    Raises:
        WeightsError: open_clip cannot build this model; the message says why. Nothing is written then.
    """
    described = to_open_clip_config(config, preprocess)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        write_tokenizer(folder, tokenizer, context_length=config.text.context_length)
    if tokenizer is None or not _is_openai_tokenizer(folder / "tokenizer.json"):
        described["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = LOCAL_TOKENIZER_NAME
    write_json(folder / CONFIG_FILE, described)
    theirs = {name: tensor.contiguous() for name, tensor in _convert_to_open_clip(tensors, config).items()}
    save_file(theirs, folder / SAFETENSORS_FILE, metadata={"format": "pt"})


def convert_from_open_clip(
    tensors: Mapping[str, Tensor], config: ModelConfig, path: Path
) -> dict[str, Tensor]:
    """Return tensors of an open_clip model under zebra's names on disk.

    What is missing or unknown is left for filling the model to find.

    Raises:
        WeightsError: Two tensors have one name; the message names `path`.
    """
    own = {name.removeprefix(TEXT_PREFIX): tensor for name, tensor in tensors.items()}
    if len(own) < len(tensors):
        raise WeightsError(f"{path} holds two text towers, with and without {TEXT_PREFIX!r}; fetch it again")
    if isinstance(config.vision, SiglipVisionConfig):
        own = convert_from_timm(own, config.vision.layers)
    # Models made for distributed training hold these as vectors of one number.
    scalars = {name: own[name].squeeze() for name in ("logit_scale", "logit_bias") if name in own}
    return own | scalars


def _convert_to_open_clip(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    theirs = dict(tensors)
    if isinstance(config.vision, SiglipVisionConfig):
        theirs = convert_to_timm(theirs, config.vision.layers)
    if isinstance(config.text, SiglipTextConfig):
        shared = ("visual.", "logit_")
        theirs = {
            name if name.startswith(shared) else TEXT_PREFIX + name: tensor for name, tensor in theirs.items()
        }
    return theirs


def _is_openai_tokenizer(path: Path) -> bool:
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    if model["type"] != "BPE":
        return False
    lines = "\n".join(" ".join(pair) for pair in model["merges"])
    return hashlib.sha256(lines.encode()).hexdigest() == OPENAI_MERGES_SHA256
