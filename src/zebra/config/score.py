"""Settings of `zebra score`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from zebra.config.cores import MAX_WORKERS
from zebra.config.data import DataConfig
from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreConfig:
    """Settings for scoring the pairs of a dataset by a model."""

    data: str
    """Captioned images of any layout that `zebra train` reads."""
    model: str
    """A model in any layout that `zebra.load` reads, with a tokenizer."""
    out: str
    """The Parquet file to write, with a row per pair."""
    flipped: bool = False
    """Also score the mirrored images, in which text cannot be read, by a second pass of the image tower."""
    prompts: str | None = None
    """File with a pair of prompts per line, NAME: PROMPT | OTHER PROMPT; adds the column NAME, the probability of the
    first one for the image."""
    store: str | None = None
    """A store of `zebra embed` with the same model; its vectors are used instead of computing them."""
    precision: InferencePrecision | Literal["auto"] = "auto"
    """auto picks the fastest precision whose vectors have a cosine of at least 0.999 to fp32."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""
    batch_size: int = 32
    """Images per batch of a worker."""
    workers: int | None = None
    """Threads that read, decode and embed; by default one per CPU core."""
    data_options: DataConfig = field(default_factory=lambda: DataConfig(max_skip_rate=1.0))
    """Settings for reading the data."""

    def __post_init__(self) -> None:
        if self.out and Path(self.out).suffix.lower() != ".parquet":
            raise ConfigError(f"out is {self.out}; scores are written as Parquet. Give a name that ends in .parquet")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; it must be at least 1")
        if self.workers is not None and not 1 <= self.workers <= MAX_WORKERS:
            raise ConfigError(f"workers is {self.workers}; it must be from 1 to {MAX_WORKERS}")
