"""Settings of `zebra dedup`."""

from dataclasses import dataclass, field

from zebra.config.data import DataConfig
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class DedupConfig:
    """Settings for finding near duplicates among images."""

    data: str
    """Images of any layout that `zebra embed` reads, or a store."""
    out: str
    """The directory for groups.csv, duplicates.html and removed.csv."""
    crops: bool = True
    """Find crops too; without them a run takes half the time and a tenth of the memory."""
    move_to: str | None = None
    """Move all images of a group but the largest to this directory, with their captions. Needs a folder of images."""
    delete: bool = False
    """Delete all images of a group but the largest, with their captions. Needs a folder of images."""
    data_options: DataConfig = field(default_factory=lambda: DataConfig(max_skip_rate=1.0))
    """Settings for reading the images."""

    def __post_init__(self) -> None:
        if self.move_to is not None and self.delete:
            raise ConfigError("move_to and delete are both set; images can be moved or deleted. Set one of them")
