"""`zebra export`: write a model in another layout, or a store as files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import torch

from zebra.config.export import ExportConfig, ModelFormat, StoreFormat
from zebra.errors import ConfigError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.pretrained.onnx.export import export_onnx
from zebra.pretrained.open_clip.layout import write_open_clip
from zebra.pretrained.sentence_transformers.layout import write_sentence_transformers
from zebra.pretrained.transformers.layout import write_transformers
from zebra.pretrained.weights import published_state_dict
from zebra.store import Store
from zebra.store.export import export_csv, export_npy, export_parquet

MODEL_EXPORTS: Mapping[str, Callable[..., None]] = {
    "transformers": write_transformers,
    "open_clip": write_open_clip,
    "sentence-transformers": write_sentence_transformers,
}
"""Format → function that writes a model's config, tensors, preprocessing and tokenizer to a folder."""
STORE_EXPORTS: Mapping[str, Callable[[Store, Path], None]] = {
    "parquet": export_parquet,
    "csv": export_csv,
    "npy": export_npy,
}
"""Format → function that writes a store to a path."""


def run(config: ExportConfig) -> Path:
    """Write `config.model` to `config.out` and return the path.

    Raises:
        ConfigError: The folder is not empty, or the file exists; nothing is overwritten. Or model and base model differ
            in architecture or tokenizer. Or the format is not one of models, or of stores.
        StoreError: The store is damaged, or the disk is full.
        WeightsError: The model cannot be read, has no tokenizer, or is not supported by the layout (transformers has
            no ResNet).
        MissingExtra: The packages for ONNX are not installed.
    """
    out = Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is a file or a folder that is not empty. Name a new one.")
    is_store = Store.exists(Path(config.model))
    if is_store != (config.format in STORE_EXPORTS):
        formats = get_args(StoreFormat if is_store else ModelFormat)
        kind = "a store" if is_store else "not a store"
        raise ConfigError(
            f"{config.model} is {kind}; --format {config.format} is not possible. Use {', '.join(formats)}"
        )
    if is_store:
        if config.format != "npy" and out.is_dir():
            raise ConfigError(f"--out {out} is a folder. Name a file, such as {out / f'rows.{config.format}'}")
        STORE_EXPORTS[config.format](Store.open(Path(config.model)), out)
        return out
    bundle = load(config.model, device="cpu")
    if config.base is not None:
        interpolate_weights(bundle, load(config.base, device="cpu"), config.wise_ft)
    tokenizer = bundle.require_tokenizer()
    if config.format == "zebra":
        bundle.save(out)
    elif config.format == "onnx":
        export_onnx(bundle, out)
    else:
        MODEL_EXPORTS[config.format](
            out,
            config=bundle.model.config,
            tensors=published_state_dict(bundle.model),
            preprocess=bundle.preprocess,
            tokenizer=tokenizer,
        )
    return out


def interpolate_weights(bundle: Bundle, base: Bundle, alpha: float) -> None:
    """Interpolate between a fine-tuned model and its base model: alpha · model + (1 − alpha) · base, in place.

    This recovers much of the base model's robustness (WiSE-FT, arXiv 2109.01903).

    Raises:
        ConfigError: The models differ in architecture or tokenizer.
    """
    if bundle.model.config != base.model.config:
        raise ConfigError(
            "the model and --base differ in architecture. Name the model that was fine-tuned with --base."
        )
    if bundle.require_tokenizer().fingerprint != base.require_tokenizer().fingerprint:
        raise ConfigError("the model and --base differ in tokenizer. Name the model that was fine-tuned with --base.")
    base_state = base.model.state_dict()
    with torch.no_grad():
        for name, value in bundle.model.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.lerp(base_state[name], value, alpha))
