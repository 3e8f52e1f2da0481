"""Settings of `zebra demo`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """Settings of the demo: draw the menagerie, train on it, evaluate, write a report."""

    out: str = "runs/demo"
    """The run directory; the dataset is written to OUT/menagerie."""
    samples: int = 40_000
    """Number of training pairs to draw."""
    seed: int = 0
    """Seed of the dataset and of training."""
    recipe: str = "demo"
    """The training recipe, by name or as a YAML file."""
    steps: int | None = None
    """Number of optimizer steps, instead of the recipe's."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""
