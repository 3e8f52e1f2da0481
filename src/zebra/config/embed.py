"""Which pictures to embed, with which model, into which store."""

from dataclasses import dataclass, field
from typing import Literal

from zebra.config.data import DataConfig
from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedConfig:
    """One data set into one store."""

    model: str
    """A model of any layout that `zebra.load` reads."""
    data: str
    """A folder of images, with captions or without; a table; tar shards; or a Hugging Face data set on disk."""
    out: str
    """The store: made if it is not there, else added to."""
    precision: InferencePrecision | Literal["auto"] = "auto"
    """auto takes the fastest here whose vectors keep a cosine of 0.999 to those of fp32."""
    fast_decode: bool = False
    """Decode large JPEGs at half, a quarter or an eighth of their size; vectors differ a little."""
    batch_size: int = 32
    """Pictures that a worker embeds together."""
    workers: int | None = None
    """Threads, or actors of Ray, that read, decode and embed; by default one for each processor core."""
    engine: Literal["threads", "ray"] = "threads"
    """ray spreads the work over a cluster, and commits everything at the end; needs zebra-clip[ray]."""
    vector_dtype: Literal["float16", "float32"] | None = None
    """How a new store keeps vectors, float16 by default; one that is there stays as it is."""
    thumbnail_size: int = 96
    """Longer side of the small JPEG kept of each picture, in pixels; 0 keeps none."""
    columns: tuple[str, ...] = ()
    """Further columns of a table that the store takes over; decided when it is made."""
    prune: bool = False
    """Delete the rows of pictures that are no longer in the data."""
    data_options: DataConfig = field(default_factory=lambda: DataConfig(max_skip_rate=0.5))

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; it must be at least 1")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers is {self.workers}; it must be at least 1")
        if not 0 <= self.thumbnail_size <= 1024:
            raise ConfigError(
                f"thumbnails is {self.thumbnail_size}; it is a side from 1 to 1024 pixels, or 0"
            )
