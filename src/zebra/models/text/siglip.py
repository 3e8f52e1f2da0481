"""SigLIP's text tower (Zhai et al. 2023, arXiv 2303.15343).

Differs from CLIP's text tower: no causal mask, padding is attended to, and the last position is pooled.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zebra.config.text_towers import SiglipTextConfig
from zebra.errors import ShapeError
from zebra.models.transformer import Transformer

MAX_TEXTS = 64
"""Largest inference batch, in texts."""


class SiglipText(nn.Module):
    """A bidirectional transformer over texts padded to one length, pooled at the last position."""

    def __init__(self, config: SiglipTextConfig, embed_dim: int) -> None:
        super().__init__()
        self.context_length = config.context_length
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(
            torch.empty(config.context_length, config.width).normal_(std=config.width**-0.5)
        )
        self.transformer = Transformer(config)
        self.ln_final = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.text_projection = nn.Linear(config.width, embed_dim)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return embeddings [B, E], not yet of unit length.

        Args:
            tokens_BL: int64 ids padded to the context length; a shorter row would give another vector.

        Raises:
            ShapeError: If L is not the context length.
        """
        if tokens_BL.shape[1] != self.context_length:
            raise ShapeError(
                f"texts of {tokens_BL.shape[1]} tokens for a SigLIP text tower, which takes exactly "
                f"{self.context_length}; encode with the model's own tokenizer"
            )
        x_BLD = self.token_embedding(tokens_BL.to(self.positional_embedding.device)) + self.positional_embedding
        last_BD = self.transformer(x_BLD, output_index=(slice(None), -1))
        return self.text_projection(self.ln_final(last_BD))

    def inference_batches(self, tokens_NL: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Split texts into inference batches, as indices; padding is attended to, so no text can be shortened."""
        return np.split(np.arange(len(tokens_NL)), range(MAX_TEXTS, len(tokens_NL), MAX_TEXTS))
