"""`zebra export`: a model of any layout in; a folder that another library opens, with the same answers, out."""

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
    """Write `config.model` into `config.out`.

    Raises:
        ConfigError: The folder holds something already; nothing is overwritten. Or two models to blend differ in
            architecture or tokenizer.
        WeightsError: The model cannot be read or has no tokenizer, or the layout cannot say it (transformers has no
            ResNet tower).
        MissingExtra: onnx without its packages.
    """
    out = Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is a file, or a folder that is not empty; name a new folder")
    bundle = load(config.model, device="cpu")
    if config.base is not None:
        interpolate_weights(bundle, load(config.base, device="cpu"), config.wise_ft)
    words = bundle.require_tokenizer()
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
            tokenizer=words,
        )
    return out


def interpolate_weights(bundle: Bundle, base: Bundle, alpha: float) -> None:
    """Move a model's weights towards those it was fine-tuned from: share · model + (1 − share) · start.

    What it learned lately is kept in part, and much of what it knew before comes back (WiSE-FT, Wortsman et al. 2022).

    Raises:
        ConfigError: The two differ in architecture or tokenizer, so neither was the other's start.
    """
    if bundle.model.config != base.model.config:
        raise ConfigError(
            "the two models to blend differ in architecture; give the start that this one came from"
        )
    if bundle.require_tokenizer().fingerprint != base.require_tokenizer().fingerprint:
        raise ConfigError(
            "the two models to blend differ in tokenizer; give the start that this one came from"
        )
    before = base.model.state_dict()
    with torch.no_grad():
        for name, value in bundle.model.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.lerp(before[name], value, alpha))
