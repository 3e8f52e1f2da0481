"""`zebra export`: a model of any layout in; a folder that another library opens, with the same answers, out."""

from collections.abc import Callable
from pathlib import Path

from zebra.config.export import ExportConfig, Format
from zebra.errors import ConfigError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.pretrained.onnx import write_onnx
from zebra.pretrained.open_clip import write_open_clip
from zebra.pretrained.transformers import write_transformers
from zebra.pretrained.weights import published_tensors


def run(config: ExportConfig) -> Path:
    """Write `config.model` into `config.out`.

    Raises:
        ConfigError: The folder holds something already; nothing is overwritten.
        WeightsError: The model cannot be read, or the layout cannot say it (transformers has no ResNet tower).
        MissingExtra: onnx without its packages.
    """
    out = Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is not empty; name a new folder")
    bundle = load(config.model, device="cpu")
    bundle.require_words()
    out.mkdir(parents=True, exist_ok=True)
    WRITERS[config.format](bundle, out)
    return out


def _zebra(bundle: Bundle, out: Path) -> None:
    bundle.save(out)


def _transformers(bundle: Bundle, out: Path) -> None:
    write_transformers(
        out,
        config=bundle.model.config,
        tensors=published_tensors(bundle.model),
        preprocess=bundle.preprocess,
        tokenizer=bundle.require_words(),
    )


def _open_clip(bundle: Bundle, out: Path) -> None:
    write_open_clip(
        out,
        config=bundle.model.config,
        tensors=published_tensors(bundle.model),
        preprocess=bundle.preprocess,
        tokenizer=bundle.require_words(),
    )


WRITERS: dict[Format, Callable[[Bundle, Path], None]] = {
    "zebra": _zebra,
    "transformers": _transformers,
    "open_clip": _open_clip,
    "onnx": write_onnx,
}
