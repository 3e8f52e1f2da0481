"""What every reader of a model layout returns: a model on disk, said in zebra's own terms."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from zebra.config.model import ModelConfig
from zebra.images.preprocess import Preprocess

ModelLayout = Literal["zebra", "transformers", "open_clip", "openai"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedCheckpoint:
    """A model as it lies on disk, before any of it is copied into towers."""

    layout: ModelLayout
    config: ModelConfig
    """Read from the layout's own config, or inferred from shapes where there is none."""
    preprocess: Preprocess
    """With the rounding rules and the order of the layout's own preprocessing."""
    tensors: dict[str, Tensor]
    """Name → tensor of any floating type, memory-mapped where the file allows it. The names are zebra's on disk: those
    of OpenAI's checkpoints (`visual.proj`, `transformer.resblocks.0.attn.in_proj_weight`, …), and for SigLIP's towers
    those of `zebra.models.image.siglip` with the text tower's prefix dropped. Buffers that can be computed are left
    out."""
    files: tuple[Path, ...]
    """The files that decide a vector: weights, config, preprocessing."""
