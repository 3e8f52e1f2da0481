"""Settings of `zebra export`."""

from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError

ExportFormat = Literal["zebra", "transformers", "open_clip", "onnx"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Settings for writing one model to one directory."""

    model: str
    """A model in any layout that `zebra.load` reads."""
    format: ExportFormat
    """zebra, transformers, open_clip, or onnx (two graphs)."""
    out: str
    """The directory to write; it must be new or empty."""
    wise_ft: float = 1.0
    """Weight of the model when interpolating with `base` (WiSE-FT, arXiv 2109.01903); 1 uses the model alone."""
    base: str | None = None
    """The model that this one was fine-tuned from; required with wise_ft."""

    def __post_init__(self) -> None:
        if not 0 <= self.wise_ft <= 1:
            raise ConfigError(f"--wise-ft is {self.wise_ft}; it must be from 0 (the base) to 1 (the model)")
        if (self.base is None) != (self.wise_ft == 1):
            raise ConfigError("--wise-ft and --base go together; give the weight and the model before fine-tuning")
