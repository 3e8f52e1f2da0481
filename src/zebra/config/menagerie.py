"""Settings of `zebra menagerie`."""

from dataclasses import dataclass

from zebra.config.cores import MAX_WORKERS
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class MenagerieConfig:
    """Size and seed of the menagerie, the built-in synthetic dataset."""

    out: str
    """The directory to write: OUT/train/*.tar and OUT/evaluation/<dataset>/."""
    samples: int = 40_000
    """Number of training pairs; evaluation datasets have a fixed size."""
    seed: int = 0
    """Seed of all images and captions; the held-out kinds do not depend on it."""
    workers: int = 2
    """Number of drawing processes; the pixels do not depend on it."""

    def __post_init__(self) -> None:
        for name in ("samples", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.workers > MAX_WORKERS:
            raise ConfigError(f"workers is {self.workers}; it must be from 1 to {MAX_WORKERS}")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; it must not be negative")
