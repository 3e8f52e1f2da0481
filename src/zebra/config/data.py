"""Settings for reading captioned images."""

from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError

DamagedShardPolicy = Literal["stop", "keep-complete-samples"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """How samples are read from a folder, a table or shards."""

    image_column: str | None = None
    """Table column with image paths or bytes; by default path, image, filepath, file_name, img, filename, …"""
    caption_columns: tuple[str, ...] = ()
    """Table columns with captions; by default all of caption, text and title that exist."""
    group_column: str | None = None
    """Table column of groups, such as product numbers: with objective.multi_positive, its pairs match each other."""
    max_skip_rate: float = 0.01
    """Largest fraction of unusable samples per epoch; above it, training stops."""
    max_image_pixels: int = 89_478_485
    """Largest width × height to decode, at most 178,956,970; larger images are skipped."""
    min_crop_area: float = 0.9
    """Smallest area fraction of a random training crop; 1.0 uses a center crop instead."""
    damaged_shards: DamagedShardPolicy = "stop"
    """What to do with a truncated or corrupt tar shard: stop, or use the samples before the damage, with a warning."""
    shard_cache_bytes: int = 20_000_000_000
    """Size limit of the disk cache for remote shards; 0 disables the cache."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_skip_rate <= 1:
            raise ConfigError(f"data_options.max_skip_rate is {self.max_skip_rate}; it must be from 0 to 1")
        if not 1 <= self.max_image_pixels <= 178_956_970:  # the ceiling is Pillow's own
            raise ConfigError(
                f"data_options.max_image_pixels is {self.max_image_pixels}; it must be from 1 to 178,956,970"
            )
        if not 0 < self.min_crop_area <= 1:
            raise ConfigError(f"data_options.min_crop_area is {self.min_crop_area}; it must be above 0 and at most 1")
        if self.shard_cache_bytes < 0:
            raise ConfigError(f"data_options.shard_cache_bytes is {self.shard_cache_bytes}; it must not be negative")
        if len(set(self.caption_columns)) != len(self.caption_columns):
            raise ConfigError(f"data_options.caption_columns repeats a column: {self.caption_columns}. Name each once.")
