"""How large the built-in world is, and what the demo does with it."""

from dataclasses import dataclass

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class MenagerieConfig:
    """The menagerie's size and seed."""

    out: str
    """The folder to write: OUT/train/*.tar and OUT/evaluation/<set>/."""
    samples: int = 40_000
    """Training pairs; the evaluation sets keep their size."""
    seed: int = 0
    """Of every picture and caption; which kinds are held out does not depend on it."""
    workers: int = 2
    """Processes that draw; the pixels are the same for any number."""

    def __post_init__(self) -> None:
        for name in ("samples", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; it cannot be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """The whole main job on the built-in world."""

    out: str = "runs/demo"
    """The run folder; the world goes into OUT/menagerie."""
    samples: int = 40_000
    """Training pairs to draw."""
    seed: int = 0
    """Of the world and of training."""
    recipe: str = "demo"
    """The training recipe, by name or as a YAML file."""
    steps: int | None = None
    """Optimizer steps instead of the recipe's, for a quick look."""
