"""Which model and sets to check for pictures of the training data."""

from dataclasses import dataclass, field

from zebra.config.data import DataConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class OverlapConfig:
    """Training data against evaluation sets."""

    model: str
    """The model whose accuracy on duplicates and on the rest is compared."""
    data: str
    """What it was trained on: images, a table or tar shards."""
    datasets: tuple[str, ...]
    """Labelled evaluation sets."""
    out: str
    """The folder for overlap.json and pairs.csv."""
    threshold: float | None = None
    """Cosine from which two pictures count as one. None: what one in a hundred distorted training pictures reaches with
    another than its own."""
    steps: int = 400
    """Of the detector's training."""
    seed: int = 0
    """Of the detector."""
    data_root: str | None = None
    """Where archives and copies of the catalogue's sets lie."""
    data_options: DataConfig = field(default_factory=lambda: DataConfig(max_skip_rate=0.5))
    """How training samples are read."""
