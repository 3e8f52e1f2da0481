"""Settings for reading captioned images."""

import math
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
    """Columns with captions; by default all of caption, text and title that exist. In shards they are keys of the .json
    members, and txt is the .txt member; in a folder, class is the name of the image's folder and txt the .txt file."""
    caption_weights: tuple[float, ...] = ()
    """How often the caption of an image comes from each of caption_columns, relative to the others that the image has;
    by default all captions are equally likely."""
    caption_templates: tuple[str, ...] = ()
    """Sentences with one {}, such as "a photo of a {}.", into which captions that are labels or lists of keywords are
    put, one at random for each sample."""
    group_column: str | None = None
    """Column of groups, such as product numbers: with objective.multi_positive, its pairs are no negatives. In shards
    it is a key of the .json members."""
    negatives_column: str | None = None
    """Table column with wrong captions of the image (hard negatives), one or a list: further texts that match no image
    of the batch."""
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
        if len(set(self.caption_templates)) != len(self.caption_templates):
            raise ConfigError(
                f"data_options.caption_templates repeats a template: {self.caption_templates}. Name each once."
            )
        self._check_weights()

    def _check_weights(self) -> None:
        if self.caption_weights and len(self.caption_weights) != len(self.caption_columns):
            raise ConfigError(
                f"data_options.caption_weights has {len(self.caption_weights)} values for "
                f"{len(self.caption_columns)} caption_columns. Name the columns, and give each a weight."
            )
        if not all(0 < weight < math.inf for weight in self.caption_weights):
            raise ConfigError(
                f"data_options.caption_weights is {self.caption_weights}; each must be a positive number. Leave out a "
                "column that is not to be used."
            )
