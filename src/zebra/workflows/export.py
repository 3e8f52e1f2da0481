"""`zebra export`: a model of any layout in; a folder that another library opens, with the same answers, out."""

from pathlib import Path

from zebra.config.export import ExportConfig
from zebra.errors import ConfigError
from zebra.pretrained.load import load
from zebra.pretrained.onnx import write_onnx
from zebra.pretrained.open_clip import write_open_clip
from zebra.pretrained.transformers import write_transformers
from zebra.pretrained.weights import published_tensors


def run(config: ExportConfig) -> Path:
    """Write `config.model` into `config.out`.

    Raises:
        ConfigError: The folder holds something already; nothing is overwritten.
        WeightsError: The model cannot be read or has no tokenizer, or the layout cannot say it (transformers has no
            ResNet tower).
        MissingExtra: onnx without its packages.
    """
    out = Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is a file, or a folder that is not empty; name a new folder")
    bundle = load(config.model, device="cpu")
    words = bundle.require_words()
    if config.format == "zebra":
        bundle.save(out)
    elif config.format == "onnx":
        write_onnx(bundle, out)
    else:
        write = {"transformers": write_transformers, "open_clip": write_open_clip}[config.format]
        write(
            out,
            config=bundle.model.config,
            tensors=published_tensors(bundle.model),
            preprocess=bundle.preprocess,
            tokenizer=words,
        )
    return out
