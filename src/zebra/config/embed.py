"""Settings of `zebra embed`."""

from dataclasses import dataclass, field
from typing import Literal

from zebra.config.cores import MAX_WORKERS
from zebra.config.data import DataConfig
from zebra.config.frames import seconds_between_frames
from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedConfig:
    """Settings for embedding one dataset into one store."""

    model: str
    """A model in any layout that `zebra.load` reads."""
    data: str
    """A folder of images, with or without captions; a table; tar shards; or a Hugging Face dataset on disk."""
    out: str
    """The store; created if missing, otherwise extended."""
    frames: str | None = None
    """Embed frames of videos: DATA is a video or a folder of videos. A rate such as 1/s, 2/s, 1/10s or 1/min, or
    "scenes" for one frame per scene; needs zebra-clip[video]."""
    precision: InferencePrecision | Literal["auto"] = "auto"
    """auto picks the fastest precision whose vectors have a cosine of at least 0.999 to fp32."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""
    fast_decode: bool = False
    """Decode large JPEGs at 1/2, 1/4 or 1/8 of their size; vectors differ slightly."""
    batch_size: int = 32
    """Images per batch of a worker."""
    workers: int | None = None
    """Threads, or Ray actors, that read, decode and embed; by default one per CPU core."""
    engine: Literal["threads", "ray"] = "threads"
    """ray distributes the work over a cluster and commits once at the end; needs zebra-clip[ray]."""
    vector_dtype: Literal["float16", "float32"] | None = None
    """Dtype of the vectors in a new store, float16 by default; an existing store keeps its own."""
    thumbnail_size: int = 96
    """Longer side of the stored JPEG thumbnails in pixels; 0 stores none."""
    columns: tuple[str, ...] = ()
    """Columns to add: of a table, keys of .json members, class, taken, camera, latitude, longitude; or "all". Columns
    of the store are filled anyway; a new one has class, taken and camera by default."""
    dimensions: int | None = None
    """Store shorter vectors, of a size that the model was trained for (Matryoshka); an existing store keeps its own."""
    captions: bool = False
    """Also store the vectors of all captions, which distillation needs (`zebra train --objective.teacher`). A store
    that has some keeps them up to date anyway."""
    prune: bool = False
    """Delete rows whose images are no longer in the data."""
    data_options: DataConfig = field(default_factory=lambda: DataConfig(max_skip_rate=0.5))

    def __post_init__(self) -> None:
        if self.frames is not None:
            seconds_between_frames(self.frames)
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; it must be at least 1")
        if self.workers is not None and not 1 <= self.workers <= MAX_WORKERS:
            raise ConfigError(f"workers is {self.workers}; it must be from 1 to {MAX_WORKERS}")
        if self.engine == "ray" and ":" in self.device:
            raise ConfigError(f"device is {self.device}, but Ray gives each worker its GPU; use cuda, cpu or auto")
        if not 0 <= self.thumbnail_size <= 1024:
            raise ConfigError(
                f"thumbnail_size is {self.thumbnail_size}; it must be from 1 to 1024 pixels, or 0 for none"
            )
