"""How captioned images are found, checked and cropped."""

from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError

DamagedShardPolicy = Literal["stop", "keep-whole-samples"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """How samples are read from a folder, a table or shards."""

    image_column: str | None = None
    """Column of a table that holds image paths or bytes; by default path, image, filepath or file_name."""
    caption_columns: tuple[str, ...] = ()
    """Columns of a table that hold captions; by default every one of caption, text and title that is there."""
    max_skip_rate: float = 0.01
    """Share of the samples of an epoch that may be unusable before training stops."""
    max_image_pixels: int = 89_478_485
    """Largest width × height decoded, at most 178,956,970; larger images are skipped before decoding."""
    min_crop_area: float = 0.9
    """Smallest share of a training image that a random crop keeps; 1.0 takes the centre square instead."""
    damaged_shards: DamagedShardPolicy = "stop"
    """What to do about a tar shard that is cut or corrupted; kept are the samples before the damage, with a warning."""
    shard_cache_bytes: int = 20_000_000_000
    """Room on disk for shards that lie in a bucket or on a server, so that they are fetched once; 0 keeps nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_skip_rate <= 1:
            raise ConfigError(
                f"data_options.max_skip_rate is {self.max_skip_rate}; it is a share from 0 to 1"
            )
        if not 1 <= self.max_image_pixels <= 178_956_970:  # the ceiling is Pillow's own
            raise ConfigError(
                f"data_options.max_image_pixels is {self.max_image_pixels}; it must be from 1 to 178,956,970"
            )
        if not 0 < self.min_crop_area <= 1:
            raise ConfigError(
                f"data_options.min_crop_area is {self.min_crop_area}; it is a share above 0, up to 1"
            )
        if self.shard_cache_bytes < 0:
            raise ConfigError(
                f"data_options.shard_cache_bytes is {self.shard_cache_bytes}; it cannot be negative"
            )
        if len(set(self.caption_columns)) != len(self.caption_columns):
            raise ConfigError(f"data_options.caption_columns names a column twice: {self.caption_columns}")
