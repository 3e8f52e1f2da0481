"""Settings of `zebra explain`."""

from dataclasses import dataclass
from pathlib import Path

from zebra.errors import ConfigError

SUFFIXES = (".html", ".png")
"""Suffixes of the files that the task writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainConfig:
    """Settings of the heat maps of an image."""

    model: str
    """A model in any layout that `zebra.load` reads, for example runs/demo/model."""
    image: str
    """Path of the image file."""
    texts: tuple[str, ...]
    """Texts to look for in the image."""
    out: str
    """The file to write: a page (.html), or an image with the maps side by side (.png)."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        if not self.texts:
            raise ConfigError('no text given; write what to look for, such as "a zebra"')
        if Path(self.out).suffix.lower() not in SUFFIXES:
            raise ConfigError(f"out is {self.out!r}; it must end with .html for a page or with .png for an image")
