"""A folder in the layout of Hugging Face transformers in, a checkpoint out; and a model in, such a folder out.

config.json  model.safetensors  preprocessor_config.json  tokenizer.json  tokenizer_config.json  …

The library itself is not needed for either.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from zebra.config.model import ModelConfig, SiglipVisionConfig
from zebra.errors import WeightsError
from zebra.images.preprocess import Preprocess
from zebra.pretrained.checkpoint import PretrainedCheckpoint
from zebra.pretrained.folder import read_json_object, write_json
from zebra.pretrained.tensors import list_weight_files, read_tensors
from zebra.pretrained.transformers.config import (
    JsonDict,
    infer_model_type,
    read_transformers_config,
    require_eos_is_last_id,
    to_transformers_config,
)
from zebra.pretrained.transformers.image_processor import read_image_processor, to_image_processor_config
from zebra.pretrained.transformers.key_mapping import (
    PATCH_EMBED_WEIGHT,
    convert_from_transformers,
    convert_to_transformers,
)
from zebra.text.bpe import BPETokenizer
from zebra.text.tokenizers import Tokenizer
from zebra.text.vocabulary import EOT, SOT

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where weights may lie; the first that exists is read."""


def read_transformers(folder: Path) -> PretrainedCheckpoint:
    """Read a `CLIPModel`, a `SiglipModel`, or a `Siglip2Model` at its own square size.

    The published SigLIP 2 models of a fixed resolution say `siglip` and are read as such. `siglip2` is NaFlex, which
    takes pictures of any shape. zebra computes it at the one size where its positions need no resampling: square
    pictures get its exact vectors. Others are squashed, where NaFlex would keep their shape; a warning says so.

    Raises:
        WeightsError: A file is missing or damaged, or asks for something that zebra does not compute exactly.
    """
    path = folder / "config.json"
    model_type, config = read_transformers_config(path)
    pictures, preprocess = read_image_processor(folder, model_type)
    if preprocess.image_size != config.image_size:
        raise WeightsError(
            f"{pictures} makes pictures of {preprocess.image_size} pixels, but the model of {path} takes "
            f"{config.image_size}; copy both files again from one source"
        )
    weights = _find_weights(folder)
    tensors = read_tensors(weights)
    if model_type == "siglip2":
        tensors = _to_conv_weight(tensors, config, weights)
        warnings.warn(
            f"{folder} is a NaFlex model: square pictures get its exact vectors, others are squashed to "
            f"{config.image_size} × {config.image_size} pixels, where NaFlex would keep their shape",
            stacklevel=2,
        )
    return PretrainedCheckpoint(
        layout="transformers",
        config=config,
        preprocess=preprocess,
        tensors=convert_from_transformers(tensors, config, str(weights)),
        files=(path, pictures, *list_weight_files(weights)),
    )


def write_transformers(
    folder: Path,
    *,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    preprocess: Preprocess,
    tokenizer: Tokenizer,
) -> None:
    """Write a folder that `CLIPModel` or `SiglipModel`, `AutoProcessor` and `pipeline` open.

    Differs: transformers has one preprocessing. It turns pictures into RGB first, transparent ones on white, and cuts
    the centre square by its own rounding: where the longer side is longer by an odd number of pixels, a square may lie
    one pixel aside. Its `CLIPTokenizer` mends no damaged encoding or HTML, and cuts long texts only when asked to.

    Args:
        folder: Made if need be; files of the same names are replaced.
        tensors: The whole model in fp32, under zebra's names on disk.

    Raises:
        WeightsError: transformers has no such model; the message names the layouts that can hold it.
    """
    model_type = infer_model_type(config)
    if model_type == "clip":
        require_eos_is_last_id(tokenizer.vocab_size - 1, config.text.vocab_size, "the tokenizer")
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, tokenizer, context_length=config.text.context_length)
    ids = _special_token_ids(read_json_object(folder / "tokenizer.json"))
    write_json(folder / "config.json", to_transformers_config(config, ids))
    write_json(folder / "preprocessor_config.json", to_image_processor_config(preprocess, model_type))
    weights = folder / "model.safetensors"
    save_file(convert_to_transformers(tensors, config), weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors leaves 0600


def write_tokenizer(folder: Path, tokenizer: Tokenizer, *, context_length: int) -> None:
    """Write the tokenizer files that transformers' `AutoTokenizer` opens.

    CLIP's pads with the end token, as OpenAI's folder does: the state at the first end token is pooled, and nothing
    behind it counts.
    """
    tokenizer.save(folder / "tokenizer.json")
    rules = read_json_object(folder / "tokenizer.json")
    special = _special_tokens(rules)
    settings: JsonDict = {
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
        **special,
    }
    if isinstance(tokenizer, BPETokenizer):
        settings["tokenizer_class"] = "CLIPTokenizer"
        _write_lines(folder / "vocab.json", [json.dumps(rules["model"]["vocab"], ensure_ascii=False)])
        pairs = [" ".join(pair) for pair in rules["model"]["merges"]]
        _write_lines(folder / "merges.txt", ["#version: 0.2", *pairs])
    else:
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        settings["padding_side"] = rules["padding"]["direction"].lower()
        # A mask would hide the padding from SigLIP's text tower, which was trained to see it.
        settings["model_input_names"] = ["input_ids"]
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "special_tokens_map.json", special)


def _find_weights(folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder} holds no weights ({', '.join(WEIGHT_FILES)}); copy the folder again")


def _to_conv_weight(tensors: Mapping[str, Tensor], config: ModelConfig, where: Path) -> dict[str, Tensor]:
    """Turn NaFlex's linear layer over flattened patches (rows, columns, channels) into a convolution's kernel."""
    assert isinstance(config.vision, SiglipVisionConfig)
    patch = config.vision.patch_size
    flat = tensors.get(PATCH_EMBED_WEIGHT)
    if flat is None or flat.ndim != 2 or flat.shape[1] != 3 * patch * patch:
        raise WeightsError(
            f"{where} lacks {PATCH_EMBED_WEIGHT} for patches of {patch} × {patch} pixels; copy it again"
        )
    return {**tensors, PATCH_EMBED_WEIGHT: flat.reshape(-1, patch, patch, 3).permute(0, 3, 1, 2).contiguous()}


def _special_tokens(tokenizer_json: JsonDict) -> dict[str, str]:
    """Return transformers' names of the special tokens → how they are spelt."""
    if not tokenizer_json.get("padding"):  # CLIP's
        return {"bos_token": SOT, "eos_token": EOT, "unk_token": EOT, "pad_token": EOT}
    model = tokenizer_json["model"]
    return {
        "eos_token": next(iter(tokenizer_json["post_processor"]["special_tokens"])),
        "unk_token": model["unk_token"] if "unk_token" in model else model["vocab"][model["unk_id"]][0],
        "pad_token": tokenizer_json["padding"]["pad_token"],
    }


def _special_token_ids(tokenizer_json: JsonDict) -> dict[str, int]:
    """Return the ids that config.json repeats."""
    vocabulary = tokenizer_json["model"]["vocab"]
    ids = vocabulary if isinstance(vocabulary, dict) else {entry[0]: i for i, entry in enumerate(vocabulary)}
    ids = ids | {token["content"]: token["id"] for token in tokenizer_json["added_tokens"]}
    return {
        f"{name}_id": ids[token]
        for name, token in _special_tokens(tokenizer_json).items()
        if name != "unk_token"
    }


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8", newline="\n")
