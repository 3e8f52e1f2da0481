"""Model folders in the layout of Hugging Face transformers.

config.json  model.safetensors  preprocessor_config.json  tokenizer.json  tokenizer_config.json  …
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from zebra.config.model import ModelConfig
from zebra.errors import WeightsError
from zebra.images.preprocess import Preprocess
from zebra.pretrained.checkpoint import PretrainedCheckpoint
from zebra.pretrained.folder import write_json
from zebra.pretrained.tensors import read_tensors, write_tensors
from zebra.pretrained.transformers.bert_dual_encoders import (
    BERT_MODEL_TYPES,
    convert_bert_dual_encoder,
    parse_bert_dual_encoder,
)
from zebra.pretrained.transformers.config import (
    JsonDict,
    infer_model_type,
    read_transformers_config,
    require_eos_is_last_id,
    to_transformers_config,
)
from zebra.pretrained.transformers.dual_encoders import (
    DualEncoder,
    convert_dual_encoder,
    match_dual_encoder,
    parse_dual_encoder,
)
from zebra.pretrained.transformers.fg_clip import drop_long_text_function
from zebra.pretrained.transformers.image_processor import (
    read_image_processor,
    require_image_size,
    to_image_processor_config,
)
from zebra.pretrained.transformers.key_mapping import convert_from_transformers, convert_to_transformers
from zebra.pretrained.transformers.model_types import require_model_type
from zebra.pretrained.transformers.tokenizer import write_tokenizer
from zebra.pretrained.weight_files import find_weights, list_weight_files
from zebra.text.files import read_json_object
from zebra.text.siglip_tokenizer import SiglipTokenizer
from zebra.text.tokenizers import Tokenizer

SIGLIP2_PROCESSOR_PATCHES = (256, 16)
"""`max_num_patches` and `patch_size` of transformers' `Siglip2Processor`, whatever the folder says (5.24)."""


def read_transformers(folder: Path) -> PretrainedCheckpoint:
    """Read a `CLIPModel`, a `SiglipModel`, a `Siglip2Model`, or one of `bert_dual_encoders` or `DUAL_ENCODERS`.

    SigLIP 2 models of a fixed resolution have the model type `siglip`; `siglip2` is NaFlex.

    Raises:
        WeightsError: A file is missing, damaged, or has a setting that zebra does not support exactly.
        MissingExtra: A model of `DUAL_ENCODERS` without transformers.
    """
    path = folder / "config.json"
    raw = read_json_object(path)
    require_model_type(raw, path)
    if raw.get("model_type") in BERT_MODEL_TYPES:
        return _read_bert_dual_encoder(folder, raw)
    dual_encoder = match_dual_encoder(raw, path)
    if dual_encoder is not None:
        return _read_dual_encoder(folder, raw, dual_encoder)
    model_type, config = read_transformers_config(path)
    processor_path, preprocess = read_image_processor(folder, model_type, config)
    weights = find_weights(folder)
    tensors, unused = drop_long_text_function(read_tensors(weights))
    return PretrainedCheckpoint(
        layout="transformers",
        config=config,
        preprocess=preprocess,
        tensors=convert_from_transformers(tensors, config, str(weights)),
        files=(path, processor_path, *list_weight_files(weights)),
        unused=unused,
    )


def _read_bert_dual_encoder(folder: Path, raw: JsonDict) -> PretrainedCheckpoint:
    """Read a model with CLIP's image tower and a text tower of the BERT family."""
    path, weights = folder / "config.json", find_weights(folder)
    config = parse_bert_dual_encoder(raw, path)
    processor_path, preprocess = read_image_processor(folder, "clip", config)
    return PretrainedCheckpoint(
        layout="transformers",
        config=config,
        preprocess=preprocess,
        tensors=convert_bert_dual_encoder(read_tensors(weights), raw, config, path, weights),
        files=(path, processor_path, *list_weight_files(weights)),
    )


def _read_dual_encoder(folder: Path, raw: JsonDict, dual_encoder: DualEncoder) -> PretrainedCheckpoint:
    """Read a model whose towers the library computes."""
    path = folder / "config.json"
    processor_path, preprocess = read_image_processor(folder, dual_encoder.model_type)
    config = parse_dual_encoder(raw, dual_encoder, preprocess, path)
    require_image_size(preprocess, config, processor_path)
    weights = find_weights(folder)
    return PretrainedCheckpoint(
        layout="transformers",
        config=config,
        preprocess=preprocess,
        tensors=convert_dual_encoder(read_tensors(weights), raw, dual_encoder, weights),
        files=(path, processor_path, *list_weight_files(weights)),
        unused=dual_encoder.unused_parts,
    )


def write_transformers(
    folder: Path, *, config: ModelConfig, tensors: Mapping[str, Tensor], preprocess: Preprocess, tokenizer: Tokenizer
) -> None:
    """Write a folder that `CLIPModel`, `SiglipModel` or `Siglip2Model`, `AutoProcessor` and `pipeline` open.

    Differences: transformers converts to RGB first, with transparent images on white, and rounds the position of the
    center crop in its own way, so that a crop may be shifted by one pixel. Its `CLIPTokenizer` does not repair damaged
    encodings and HTML, and truncates long texts only on request.

    Args:
        folder: Created if it does not exist; existing files of the same names are replaced.
        tensors: The complete model in fp32, under zebra's names on disk.

    Raises:
        WeightsError: transformers cannot represent the model; the message names the layouts that can.
    """
    patches = (preprocess.max_num_patches, preprocess.patch_size)
    if infer_model_type(config) == "siglip2" and patches != SIGLIP2_PROCESSOR_PATCHES:
        count, side = SIGLIP2_PROCESSOR_PATCHES
        warnings.warn(
            f"transformers' AutoProcessor gives every siglip2 model {count} patches of {side} px. Pass it "
            f"max_num_patches={preprocess.max_num_patches}, patch_size={preprocess.patch_size}, or use "
            "AutoImageProcessor, which reads them from the folder.",
            stacklevel=2,
        )
    write_transformers_files(folder, config=config, tensors=tensors, preprocess=preprocess, tokenizer=tokenizer)


def write_transformers_files(
    folder: Path, *, config: ModelConfig, tensors: Mapping[str, Tensor], preprocess: Preprocess, tokenizer: Tokenizer
) -> None:
    """Write the files of `write_transformers`, for a caller that gives the processor its number of patches."""
    model_type = infer_model_type(config)
    if model_type == "clip":
        require_eos_is_last_id(tokenizer.vocab_size - 1, config.text.vocab_size, "the tokenizer")
    if model_type == "siglip2":
        _require_byte_fallback(tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    ids = write_tokenizer(folder, tokenizer, context_length=config.text.context_length)
    write_json(folder / "config.json", to_transformers_config(config, ids))
    write_json(folder / "preprocessor_config.json", to_image_processor_config(preprocess, model_type))
    write_tensors(convert_to_transformers(tensors, config), folder / "model.safetensors")


def _require_byte_fallback(tokenizer: Tokenizer) -> None:
    """Raise WeightsError for a tokenizer that transformers' `Siglip2Tokenizer` would misread."""
    if not isinstance(tokenizer, SiglipTokenizer) or not tokenizer.has_byte_fallback:
        raise WeightsError(
            "transformers reads the tokenizer of every siglip2 model as a BPE with byte fallback, and this model has "
            "another one: its texts would get other ids. Use --format zebra."
        )
