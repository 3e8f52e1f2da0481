"""Settings of `zebra export`."""

from dataclasses import dataclass
from typing import Literal, get_args

from zebra.errors import ConfigError

ModelFormat = Literal["zebra", "transformers", "open_clip", "sentence-transformers", "onnx"]
StoreFormat = Literal["parquet", "csv", "npy"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Settings for writing one model or one store."""

    model: str
    """A model in any layout that `zebra.load` reads; or a store, for parquet, csv and npy."""
    format: ModelFormat | StoreFormat
    """Of a model: zebra, transformers, open_clip, sentence-transformers, or onnx (for onnxruntime and browsers). Of a
    store: parquet, csv, or npy (vectors.npy and rows.parquet)."""
    out: str
    """The directory to write, which must be new or empty; for parquet and csv, a new file."""
    wise_ft: float = 1.0
    """Weight of the model when interpolating with `base` (WiSE-FT, arXiv 2109.01903); 1 uses the model alone."""
    base: str | None = None
    """The model that this one was fine-tuned from; required with wise_ft."""

    def __post_init__(self) -> None:
        if self.format in get_args(StoreFormat) and self.base is not None:
            raise ConfigError(f"--wise-ft and --base are for models; {self.format} is a format of stores")
        if not 0 <= self.wise_ft <= 1:
            raise ConfigError(f"--wise-ft is {self.wise_ft}; it must be from 0 (the base) to 1 (the model)")
        if (self.base is None) != (self.wise_ft == 1):
            raise ConfigError("--wise-ft and --base go together; give the weight and the model before fine-tuning")
