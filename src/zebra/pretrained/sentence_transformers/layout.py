"""Folders of sentence-transformers with one CLIP or SigLIP model.

A transformers folder beside `modules.json`:

modules.json  config_sentence_transformers.json  0_CLIPModel/ (config.json, model.safetensors, tokenizer.json, …)
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from zebra.config.model import ModelConfig
from zebra.errors import WeightsError, show_value
from zebra.images.preprocess import Preprocess
from zebra.pretrained.folder import write_json
from zebra.pretrained.sentence_transformers.modules import (
    CONFIG_FILE,
    MODULE_SETTINGS_FILES,
    MODULES_FILE,
    read_module_settings,
    read_modules,
)
from zebra.pretrained.transformers.config import infer_model_type
from zebra.pretrained.transformers.layout import write_transformers_files
from zebra.text.files import read_json_object
from zebra.text.tokenizers import Tokenizer

_PADDED = {"padding": "max_length"}
"""SigLIP's text tower was trained with texts of one length. By default, the library pads to the longest of a batch."""
_MODALITIES = {
    modality: {"method": f"get_{modality}_features", "method_output_name": "pooler_output"}
    for modality in ("text", "image")
}
_PILLOW = {"backend": "pil"}
_SUPPORTED_SETTINGS: dict[str, tuple[object, ...]] = {
    "transformer_task": ("feature-extraction",),
    "modality_config": (_MODALITIES,),
    "module_output_name": ("sentence_embedding",),
    "max_seq_length": (),  # compared with the model's
    "do_lower_case": (False,),
    "unpad_inputs": (None, True, False),
    "processor_kwargs": ({}, _PILLOW),
    "processing_kwargs": (),  # compared with those of the model
    **dict.fromkeys(("model_kwargs", "config_kwargs", "model_args", "config_args", "tokenizer_args"), ({},)),
}


def find_dual_encoder(folder: Path) -> Path:
    """Return the folder of the CLIP or SigLIP model in a folder of sentence-transformers.

    Raises:
        WeightsError: The modules are unknown, or others than one CLIP or SigLIP model.
    """
    modules = read_modules(folder)
    kinds = [module.kind for module in modules]
    if kinds not in (["CLIPModel"], ["Transformer"]):
        raise WeightsError(
            f"{folder / MODULES_FILE} has the modules {', '.join(kinds) or 'none'}. zebra reads one Transformer or "
            "CLIPModel with a CLIP or SigLIP model, or Transformer, Pooling and at most one Dense for texts."
        )
    model = folder / modules[0].path
    settings = read_module_settings(model, _SUPPORTED_SETTINGS)
    raw = read_json_object(model / "config.json")
    model_type, max_length, num_positions = raw.get("model_type"), settings.get("max_seq_length"), _num_positions(raw)
    if max_length is not None and not (isinstance(max_length, int) and max_length >= num_positions):
        raise WeightsError(
            f"{model}: max_seq_length is {show_value(max_length)}, but the model reads {num_positions} tokens. Delete "
            "it; then texts are truncated later than in sentence-transformers."
        )
    processing = settings.get("processing_kwargs") or {}
    if not _is_supported_processing(processing, model):
        raise WeightsError(
            f"{model}: processing_kwargs is {show_value(processing)}, which zebra does not support. Delete it if it "
            "cannot change a vector."
        )
    if model_type in ("siglip", "siglip2") and not processing.get("text"):
        warnings.warn(
            f"{folder} pads texts to the longest of a batch in sentence-transformers, so that a text has several "
            f"vectors. zebra pads to {num_positions} tokens, as the model was trained.",
            stacklevel=3,
        )
    return model


def _is_supported_processing(processing: object, model: Path) -> bool:
    """Return whether options of the processor pad texts to one length, or repeat those in the processor's file."""
    if not isinstance(processing, Mapping) or not processing.keys() <= {"text", "image"}:
        return False
    text, image = processing.get("text") or {}, processing.get("image") or {}
    processor: dict[str, Any] = {}
    for path in (model / "preprocessor_config.json", model / "processor_config.json"):
        raw = read_json_object(path) if path.is_file() else {}
        processor |= raw.get("image_processor") or raw
    is_repeated = isinstance(image, Mapping) and all(processor.get(key) == value for key, value in image.items())
    return text in ({}, _PADDED) and is_repeated


def _num_positions(raw: Mapping[str, Any]) -> int:
    """Return the number of positions of the text tower in a config of transformers, by default CLIP's or SigLIP's."""
    text_config = raw.get("text_config")
    num_positions = text_config.get("max_position_embeddings") if isinstance(text_config, Mapping) else None
    return num_positions if isinstance(num_positions, int) else 64 if "siglip" in str(raw.get("model_type")) else 77


def write_sentence_transformers(
    folder: Path, *, config: ModelConfig, tensors: Mapping[str, Tensor], preprocess: Preprocess, tokenizer: Tokenizer
) -> None:
    """Write a folder that `SentenceTransformer(folder)` opens, with the same unit vectors.

    A CLIP model opens in every version of the library, a SigLIP model in 5.4 and later. Images are resized by Pillow,
    as in zebra; with the torchvision that the library takes by default, pixels differ.

    Args:
        folder: Created if it does not exist; existing files of the same names are replaced.
        tensors: The complete model in fp32, under zebra's names on disk.

    Raises:
        WeightsError: transformers cannot represent the model; the message names the layouts that can.
    """
    kind = "CLIPModel" if infer_model_type(config) == "clip" else "Transformer"
    module = folder / f"0_{kind}"
    write_transformers_files(module, config=config, tensors=tensors, preprocess=preprocess, tokenizer=tokenizer)
    settings: dict[str, Any] = {
        "transformer_task": "feature-extraction",
        "modality_config": _MODALITIES,
        "module_output_name": "sentence_embedding",
        "processor_kwargs": {"backend": "pil"},
    }
    if kind == "Transformer":
        settings["processing_kwargs"] = {"text": _PADDED}
        if preprocess.resize == "naflex":
            # Otherwise the processor takes the numbers of the published models, not those of its own file.
            patches = {"max_num_patches": preprocess.max_num_patches, "patch_size": preprocess.patch_size}
            settings["processing_kwargs"]["image"] = patches
    write_json(module / MODULE_SETTINGS_FILES[0], settings)
    classes = {module.name: kind, "1_Normalize": "Normalize"}
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}
        for index, (path, name) in enumerate(classes.items())
    ]
    write_json(folder / MODULES_FILE, modules)
    write_json(folder / CONFIG_FILE, {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"})
