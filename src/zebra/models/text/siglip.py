"""The bidirectional text tower of SigLIP (arXiv 2303.15343), CLIPA and MobileCLIP.

Differs from CLIP's text tower: no causal mask, and padding is attended to. So all texts have one length.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.config.text_towers import SiglipTextConfig
from zebra.errors import ShapeError
from zebra.models.transformer import OutputIndex, Transformer

MAX_TEXTS = 64
"""Largest inference batch, in texts."""


class SiglipText(nn.Module):
    """A bidirectional transformer over texts padded to one length, by default pooled at the last position."""

    def __init__(self, config: SiglipTextConfig, embed_dim: int) -> None:
        super().__init__()
        self.context_length = config.context_length
        self.pooling = config.pooling
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(
            torch.empty(config.context_length, config.width).normal_(std=config.width**-0.5)
        )
        self.transformer = Transformer(config)
        self.ln_final = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.text_projection: nn.Linear | nn.Parameter | None
        if config.projection == "none":
            self.text_projection = None
        elif config.projection_bias:
            self.text_projection = nn.Linear(config.width, embed_dim)
        else:
            weight_DE = torch.empty(config.width, embed_dim).normal_(std=config.width**-0.5)
            self.text_projection = nn.Parameter(weight_DE)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return embeddings [B, E], not yet of unit length.

        Args:
            tokens_BL: int64 ids padded to the context length; a shorter row would give another vector. A tower that
                pools at the largest id has CLIP's tokenizer and pads shorter rows with its padding, 0.

        Raises:
            ShapeError: If L is not the context length.
        """
        tokens_BL = tokens_BL.to(self.positional_embedding.device)
        if self.pooling == "argmax" and tokens_BL.shape[1] < self.context_length:
            tokens_BL = F.pad(tokens_BL, (0, self.context_length - tokens_BL.shape[1]))
        if tokens_BL.shape[1] != self.context_length:
            raise ShapeError(
                f"texts of {tokens_BL.shape[1]} tokens for a bidirectional text tower, which takes exactly "
                f"{self.context_length}; encode with the model's own tokenizer"
            )
        x_BLD = self.token_embedding(tokens_BL) + self.positional_embedding
        index: OutputIndex = (slice(None), -1)
        if self.pooling == "argmax":
            index = (torch.arange(tokens_BL.shape[0], device=tokens_BL.device), tokens_BL.argmax(dim=1))
        pooled_BD = self.ln_final(self.transformer(x_BLD, output_index=index))
        match self.text_projection:
            case None:
                return pooled_BD
            case nn.Linear():
                return self.text_projection(pooled_BD)
            case projection_DE:
                return pooled_BD @ projection_DE

    def inference_batches(self, tokens_NL: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Split texts into inference batches, as indices; padding is attended to, so no text can be shortened."""
        return np.split(np.arange(len(tokens_NL)), range(MAX_TEXTS, len(tokens_NL), MAX_TEXTS))
