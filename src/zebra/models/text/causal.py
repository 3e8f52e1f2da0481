"""CLIP's causal text tower (CLIP §2.4)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.config.text_towers import TextConfig
from zebra.errors import ShapeError
from zebra.models.packing import pack_texts, split_batches
from zebra.models.transformer import Transformer

MAX_NODES = 2048
"""Prefixes per inference batch: enough for efficient matrix products, few enough for the CPU caches."""


class TextTransformer(nn.Module):
    """A causal transformer, pooled at the end-of-text token.

    Differs: the published models compute all 77 positions of every text. A causal state never depends on later tokens,
    so this tower computes each distinct prefix of a batch once (`packing`), and the last block only the end tokens.
    The function is the same; the other texts of a batch change the result only by rounding.
    """

    def __init__(self, config: TextConfig, embed_dim: int) -> None:
        super().__init__()
        self.context_length = config.context_length
        self.eos_id = config.eos_id
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.transformer = Transformer(config)
        self.ln_final = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.text_projection = nn.Parameter(torch.empty(config.width, embed_dim))

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return embeddings [B, E], not yet of unit length.

        Args:
            tokens_BL: int64 ids, L ≤ context_length; see `end_position`. Pass them on the CPU, where they are packed,
                to avoid a GPU synchronization.

        Raises:
            ShapeError: If L exceeds the context length.
        """
        if tokens_BL.shape[1] > self.context_length:
            raise ShapeError(
                f"texts of {tokens_BL.shape[1]} tokens for a text tower of context length {self.context_length}; "
                "encode with truncate=True, or shorten the texts"
            )
        tokens_BL = tokens_BL.cpu()
        length_B = self.end_position(tokens_BL) + 1
        packed = pack_texts(tokens_BL.numpy(), length_B.numpy()).to(self.positional_embedding.device)
        x_ND = self.token_embedding(packed.token_N) + F.embedding(packed.position_N, self.positional_embedding)
        x_BD = self.transformer(x_ND, attn_mask=packed, output_index=packed.end_B)
        return self.ln_final(x_BD) @ self.text_projection

    def end_position(self, tokens_BL: Tensor) -> Tensor:
        """Return where each text ends and is pooled [B]: at the first `eos_id`, or at the first of its largest ids.

        A text without `eos_id` is pooled at its first token, as in the published code.
        """
        return (tokens_BL if self.eos_id is None else (tokens_BL == self.eos_id).int()).argmax(dim=1)

    def inference_batches(self, tokens_NL: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Split texts into inference batches, as indices, with common prefixes together."""
        length_N = self.end_position(torch.from_numpy(tokens_NL)).numpy() + 1
        return split_batches(tokens_NL, length_N, MAX_NODES)
