"""Which model to write anew, in which layout, and where."""

from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError

ExportFormat = Literal["zebra", "transformers", "open_clip", "onnx"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """One model into one folder."""

    model: str
    """A model of any layout that `zebra.load` reads."""
    format: ExportFormat
    """zebra, transformers, open_clip, or onnx (two graphs)."""
    out: str
    """The folder to write; it must be empty or new."""
    wise_ft: float = 1.0
    """What share of the model's weights to take; the rest comes from `start` (WiSE-FT, arXiv 2109.01903)."""
    base: str | None = None
    """The model that this one was fine-tuned from; needed to blend."""

    def __post_init__(self) -> None:
        if not 0 <= self.wise_ft <= 1:
            raise ConfigError(f"--blend is {self.wise_ft}; it is a share from 0 (the start) to 1 (the model)")
        if (self.base is None) != (self.wise_ft == 1):
            raise ConfigError(
                "--blend and --with go together: give the share, and the model that this one started from"
            )
