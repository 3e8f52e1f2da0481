"""Which model to write anew, in which layout, and where."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["zebra", "transformers", "open_clip", "onnx"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """One model into one folder."""

    model: str
    """A model of any layout that `zebra.load` reads."""
    format: Format
    """zebra, transformers, open_clip, or onnx (two graphs)."""
    out: str
    """The folder to write; it must be empty or new."""
