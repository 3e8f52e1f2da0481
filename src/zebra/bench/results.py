"""Results of `zebra bench`."""

from collections.abc import Mapping
from dataclasses import dataclass

from zebra.bench.ceilings import Ceiling
from zebra.bench.encoders import Unavailable
from zebra.bench.machine import Machine

BUSY_FRACTION = 0.1
"""Fraction of the time in which a thread waits for a core from which figures are marked."""


@dataclass(frozen=True, slots=True)
class BenchModel:
    """The model that was measured."""

    name: str
    weights: str
    """Where they come from, or "random"."""
    image_tower: str
    text_tower: str
    image_size: int
    embed_dim: int
    num_parameters: int
    gflops_per_image: float
    """Of the image tower, 10⁹ operations; a multiply-add is two."""
    gflops_per_prompt: float | None
    """Of the text tower for one of the prompts, with shared prefixes computed once; None without a tokenizer."""
    gflops_per_caption: float | None


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """What does not depend on the number of threads."""

    name: str
    min_cosine: float
    """Smallest cosine of an image's or a text's vector to that of zebra in fp32."""
    weight_bytes: int | None
    gpu_bytes: int | None
    """Growth of the memory of the GPU at its peak while images are encoded; None on a CPU."""


@dataclass(frozen=True, slots=True)
class ImageSpeed:
    """Images per second; on one thread, per CPU-second."""

    name: str
    preprocess_per_second: float
    """Decoding and preprocessing of JPEGs."""
    tower_per_second: float
    images_per_second: float
    """Both, one after the other."""
    ceiling_fraction: float | None
    """Operations of the tower per second, of the ceiling of its number format."""
    times_peers: dict[str, float]
    """Peer → how many times as fast both are: the median of the ratios within a round."""


@dataclass(frozen=True, slots=True)
class TextSpeed:
    """Texts per second; on one thread, per CPU-second."""

    name: str
    prompts_per_second: float
    captions_per_second: float
    ceiling_fraction: float | None
    """Of the captions."""
    prompts_times_peers: dict[str, float]
    """Peer → how many times as many prompts per second."""
    captions_times_peers: dict[str, float]


@dataclass(frozen=True, slots=True)
class ThreadPass:
    """All measurements with one number of threads."""

    num_threads: int
    num_images: int
    """Images in a batch."""
    num_prompts: int
    num_captions: int
    num_peer_texts: int
    """Texts in a batch of a peer, whose cost per text does not depend on the text."""
    num_rounds: int
    waiting: float
    """Fraction of the time in which a thread waited for a core."""
    ceilings: list[Ceiling]
    images: list[ImageSpeed]
    texts: list[TextSpeed]

    @property
    def is_busy(self) -> bool:
        """Return whether other processes took much of the cores."""
        return self.waiting > BUSY_FRACTION


@dataclass(frozen=True, slots=True)
class SearchSpeed:
    """Exact search in random vectors of the model's size."""

    num_vectors: int
    embed_dim: int
    median_ms: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What `zebra bench` found."""

    machine: Machine
    model: BenchModel
    encoders: list[EncoderFacts]
    auto: Mapping[str, str]
    """Tower, image or text → the precision that `precision="auto"` takes."""
    unavailable: list[Unavailable]
    passes: list[ThreadPass]
    """One thread, and all threads if there are more."""
    search: SearchSpeed | Unavailable
    peak_bytes: int | None
    """Peak memory of the process, peers included."""
    seconds: float
