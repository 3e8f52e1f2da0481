"""Settings of `zebra bench`."""

import math
from dataclasses import dataclass

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """Settings of the measurement of a model's speed."""

    model: str = ""
    """A model in any layout that `zebra.load` reads; if empty, ViT-B/32 with random weights."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""
    seconds: float = 60.0
    """About how long the measurement takes; more time allows larger batches and more rounds."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ConfigError(f"seconds is {self.seconds}; it must be a number of at least 0, such as 60")
