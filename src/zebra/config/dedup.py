"""Settings of `zebra dedup`."""

from dataclasses import dataclass, field
from typing import Literal

from zebra.config.data import DataConfig
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class DedupConfig:
    """Settings for finding near duplicates among images."""

    data: str
    """Images of any layout that `zebra embed` reads, or a store."""
    out: str
    """The directory for groups.csv, duplicates.html and removed.csv."""
    by: Literal["pixels", "vectors"] = "pixels"
    """pixels reads the images and finds copies. vectors compares the vectors of a store and finds images that the model
    can hardly tell apart, which is faster and needs no images."""
    min_cosine: float = 0.98
    """Cosine above which two images are duplicates, for --by vectors. It depends on the model: look at the page."""
    crops: bool = True
    """Find crops too; without them a run takes half the time and a tenth of the memory. For --by pixels."""
    column: str = ""
    """Also write the id of the kept image into this column of the store, in the rows of its duplicates."""
    move_to: str | None = None
    """Move all images of a group but the largest to this directory, with their captions. Needs a folder of images."""
    delete: bool = False
    """Delete all images of a group but the largest, with their captions. Needs a folder of images."""
    data_options: DataConfig = field(default_factory=lambda: DataConfig(max_skip_rate=1.0))
    """Settings for reading the images."""

    def __post_init__(self) -> None:
        if self.move_to is not None and self.delete:
            raise ConfigError("move_to and delete are both set; images can be moved or deleted. Set one of them")
        if not 0 < self.min_cosine < 1:
            raise ConfigError(f"--min-cosine is {self.min_cosine:g}; it must be above 0 and below 1")
