"""Reading and writing of model folders in zebra's own layout.

config.json  model.safetensors  tokenizer.json  preprocess.json  golden.safetensors  templates.json  MANIFEST.json
README.md
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zebra.config.model import ModelConfig
from zebra.config.structure import structure, unstructure
from zebra.errors import ConfigError, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.checkpoint import PretrainedCheckpoint
from zebra.pretrained.golden import BundleEncoder, write_golden
from zebra.pretrained.manifest import write_manifest
from zebra.pretrained.model_card import render_model_card
from zebra.pretrained.tensors import read_tensors
from zebra.pretrained.weights import save_weights
from zebra.text.files import read_json_object
from zebra.text.templates import DEFAULT_TEMPLATES, fill_template
from zebra.text.tokenizers import Tokenizer

MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "preprocess.json", "golden.safetensors")
FINGERPRINT_FILES = MODEL_FILES[:4]
"""The files that determine the vectors; the fingerprint is a hash of their digests."""
TEMPLATES_FILE = "templates.json"
"""The model's prompt templates; without this file, the paper's."""
FORMAT_VERSION = {"format": "zebra", "version": 1}


def write_model_folder(
    folder: Path,
    *,
    model: CLIP,
    tokenizer: Tokenizer,
    preprocess: Preprocess,
    encoder: BundleEncoder,
    templates: Sequence[str],
    metadata: Mapping[str, str],
) -> str:
    """Write every file that is needed to reproduce an embedding; return the fingerprint.

    Args:
        folder: Created if it does not exist.
        encoder: Computes the golden vectors with this model, tokenizer and preprocessing.
        templates: The model's prompt templates.
        metadata: Lines of the model card, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = FORMAT_VERSION | unstructure(model.config)
    if not model.config.dimensions:
        del config["dimensions"]
    write_json(folder / "config.json", config)
    write_json(folder / "preprocess.json", preprocess.to_dict())
    save_weights(model, folder / "model.safetensors")
    tokenizer.save(folder / "tokenizer.json")
    write_golden(encoder, folder / "golden.safetensors")
    write_json(folder / TEMPLATES_FILE, {"templates": list(templates)})
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    card = render_model_card(model.config, num_parameters, metadata, templates)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return compute_fingerprint(write_manifest(folder))


def read_model_folder(folder: Path) -> PretrainedCheckpoint:
    """Read a folder that `write_model_folder` wrote.

    Raises:
        WeightsError: A file is missing or damaged, a setting is invalid, or the format has another version.
    """
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise WeightsError(
            f"{folder} is an incomplete zebra model: {', '.join(missing)} missing. Copy the folder again."
        )
    path = folder / "config.json"
    raw = read_json_object(path)
    if {name: raw.pop(name, None) for name in FORMAT_VERSION} != FORMAT_VERSION:
        raise WeightsError(f"{path} does not have zebra's format, version 1. Use the zebra that wrote it.")
    try:
        config = structure(ModelConfig, raw, "model")
        path = folder / "preprocess.json"
        preprocess = Preprocess.from_dict(read_json_object(path))
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}. Copy the folder again.") from error
    if preprocess.image_size != config.image_size:
        raise WeightsError(
            f"{path} has the image size {preprocess.image_size}, but config.json has "
            f"{config.image_size}. Copy both files from the same model."
        )
    return PretrainedCheckpoint(
        layout="zebra",
        config=config,
        preprocess=preprocess,
        tensors=read_tensors(folder / "model.safetensors"),
        files=tuple(folder / name for name in FINGERPRINT_FILES),
        templates=_read_templates(folder / TEMPLATES_FILE),
    )


def verified_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the files that loading reads, which the manifest must list."""
    return (*MODEL_FILES, TEMPLATES_FILE) if (folder / TEMPLATES_FILE).is_file() else MODEL_FILES


def compute_fingerprint(digests: Mapping[str, str]) -> str:
    """Return the fingerprint of a model from the SHA-256 of its files, by name."""
    relevant = {name: digests[name] for name in FINGERPRINT_FILES}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]


def _read_templates(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return DEFAULT_TEMPLATES
    templates = read_json_object(path).get("templates")
    if not isinstance(templates, list) or not templates or not all(isinstance(item, str) for item in templates):
        raise WeightsError(f'{path} is not {{"templates": ["a photo of a {{}}.", …]}}. Copy the folder again.')
    try:
        for template in templates:
            fill_template(template, "")
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error
    return tuple(templates)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file of a model folder, indented."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
