"""The result of reading a model in any layout, in zebra's terms."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextTowerConfig
from zebra.images.preprocess import Preprocess
from zebra.text.templates import DEFAULT_TEMPLATES

ModelLayout = Literal["zebra", "transformers", "open_clip", "openai", "pair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedCheckpoint:
    """A model read from disk: config, preprocessing and tensors, not yet loaded into towers."""

    layout: ModelLayout
    """"pair" is an image tower and a text tower of two models."""
    config: ModelConfig
    """Converted from the layout's config, or inferred from the tensors' shapes if it has none."""
    preprocess: Preprocess
    """With the rounding rules and the order of operations of the layout's library."""
    tensors: dict[str, Tensor]
    """Tensors of any floating type by name, memory-mapped where the file format allows it. The names are zebra's on
    disk: those of OpenAI's checkpoints (`visual.proj`, `transformer.resblocks.0.attn.in_proj_weight`, …) and, for
    SigLIP, those of `zebra.models.image.siglip` without the text tower's prefix. Buffers that can be computed are
    omitted."""
    files: tuple[Path, ...]
    """The files that determine the vectors: weights, config, preprocessing."""
    given_architecture: str = ""
    """Architecture from the caller that the files do not contain; part of the fingerprint."""
    unused: str = ""
    """What of the model is not read, in words; it has no influence on the vectors."""
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    """Prompt templates; only zebra's layout has a place for a model's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCheckpoint:
    """A text tower read from disk, to be paired with the image tower of another model."""

    folder: Path
    """The folder with its tokenizer."""
    embed_dim: int
    """Dimension E of the vectors."""
    config: TextTowerConfig
    tensors: dict[str, Tensor]
    """As in `PretrainedCheckpoint`, of the text tower only."""
    files: tuple[Path, ...]
    """The files that determine the vectors."""
