"""Settings of `zebra overlap`."""

from dataclasses import dataclass, field

from zebra.config.data import DataConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class OverlapConfig:
    """Settings for finding training images in evaluation datasets."""

    model: str
    """The model to evaluate on duplicates and on the remaining images."""
    data: str
    """The model's training data: images, a table or tar shards."""
    datasets: tuple[str, ...]
    """Labeled evaluation datasets."""
    out: str
    """The directory for overlap.json and pairs.csv."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""
    threshold: float | None = None
    """Cosine from which images count as near duplicates. Default: set for a false-positive rate of 1 %."""
    steps: int = 400
    """Training steps of the duplicate detector."""
    seed: int = 0
    """Seed of the duplicate detector."""
    data_root: str | None = None
    """Directory with archives and copies of catalog datasets."""
    data_options: DataConfig = field(default_factory=lambda: DataConfig(max_skip_rate=0.5))
    """Settings for reading training samples."""
