"""The task `zebra export`: write a model in the layout of another library."""

from pathlib import Path

import torch

from zebra.config.export import ExportConfig
from zebra.errors import ConfigError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.pretrained.onnx_export import export_onnx
from zebra.pretrained.open_clip import write_open_clip
from zebra.pretrained.transformers import write_transformers
from zebra.pretrained.weights import published_state_dict


def run(config: ExportConfig) -> Path:
    """Write `config.model` to `config.out` and return the path.

    Raises:
        ConfigError: The folder is not empty; nothing is overwritten. Or model and base model differ in architecture or
            tokenizer.
        WeightsError: The model cannot be read, has no tokenizer, or is not supported by the layout (transformers has
            no ResNet).
        MissingExtra: The packages for ONNX are not installed.
    """
    out = Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is a file or a folder that is not empty. Name a new folder.")
    bundle = load(config.model, device="cpu")
    if config.base is not None:
        interpolate_weights(bundle, load(config.base, device="cpu"), config.wise_ft)
    tokenizer = bundle.require_tokenizer()
    if config.format == "zebra":
        bundle.save(out)
    elif config.format == "onnx":
        export_onnx(bundle, out)
    else:
        write = {"transformers": write_transformers, "open_clip": write_open_clip}[config.format]
        write(
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
