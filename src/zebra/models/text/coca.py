"""The text encoder of CoCa (Yu et al. 2022, arXiv 2205.01917).

A class token follows the padded text and is pooled. The mask of open_clip's published weights is shifted by one
position: a token is hidden from all queries if the token *before* it is padding. So the class token attends to the text
and to the first padding, but not to itself, unless the text fills the context.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.config.text_towers import CocaTextConfig
from zebra.errors import ShapeError
from zebra.models.transformer import Transformer

PAD_ID = 0
"""The padding of CLIP's tokenizer. It is also the id of "!", after which the mask hides a token too."""
MAX_TOKENS = 4096
"""Largest inference batch, in tokens."""


class CocaText(nn.Module):
    """A causal transformer, pooled at a class token after the text.

    Differs: the published code computes all positions. Padding after the first one is hidden, so this tower computes
    only as many positions as the longest text of a batch needs. The function is the same.
    """

    def __init__(self, config: CocaTextConfig, embed_dim: int) -> None:
        super().__init__()
        self.context_length = config.context_length
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.cls_emb = nn.Parameter(torch.empty(config.width))
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length + 1, config.width))
        self.transformer = Transformer(config)
        self.ln_final = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.text_projection = nn.Parameter(torch.empty(config.width, embed_dim))

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return embeddings [B, E], not yet of unit length.

        Args:
            tokens_BL: int64 ids padded with 0, L ≤ context_length.

        Raises:
            ShapeError: If L exceeds the context length.
        """
        if tokens_BL.shape[1] > self.context_length:
            raise ShapeError(
                f"texts of {tokens_BL.shape[1]} tokens for a text tower of context length {self.context_length}; "
                "encode with truncate=True, or shorten the texts"
            )
        return self.encode_padded(self._trim(tokens_BL.cpu()).to(self.positional_embedding.device))

    def encode_padded(self, tokens_BL: Tensor) -> Tensor:
        """Return embeddings [B, E] of rows that fill the context, or end with at least one padding each."""
        B, L = tokens_BL.shape
        class_B1D = self.cls_emb.expand(B, 1, -1) + self.positional_embedding[-1]
        x_BLD = torch.cat([self.token_embedding(tokens_BL) + self.positional_embedding[:L], class_B1D], dim=1)
        is_visible_BL = F.pad(tokens_BL != PAD_ID, (1, 0), value=True)
        position_L = torch.arange(L + 1, device=tokens_BL.device)
        mask_B1LL = (position_L <= position_L[:, None]) & is_visible_BL[:, None, None]
        class_BD = self.transformer(x_BLD, attn_mask=mask_B1LL, output_index=(slice(None), -1))
        return self.ln_final(class_BD) @ self.text_projection

    def inference_batches(self, tokens_NL: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Split texts into inference batches, as indices, with texts of similar length together."""
        length_N = _text_lengths(torch.from_numpy(tokens_NL)).numpy() + 2
        order_N = np.argsort(length_N, kind="stable")
        return np.split(order_N, np.flatnonzero(np.diff(length_N[order_N].cumsum() // MAX_TOKENS)) + 1)

    def _trim(self, tokens_BL: Tensor) -> Tensor:
        """Return the texts with one padding after the longest, if the context allows it."""
        num_columns = min(int(_text_lengths(tokens_BL).max()) + 1, self.context_length)
        return F.pad(tokens_BL, (0, num_columns - tokens_BL.shape[1]), value=PAD_ID)


def _text_lengths(tokens_BL: Tensor) -> Tensor:
    """Return the number of tokens [B] up to the last one that is not padding."""
    positions_L = torch.arange(1, tokens_BL.shape[1] + 1)
    return torch.where(tokens_BL != PAD_ID, positions_L, 0).amax(dim=1)
