"""The causal text tower (CLIP §2.4): token ids [B, L] in, the end-of-text state projected to [B, E] out."""

import torch
from torch import Tensor, nn

from zebra.config.model import TextConfig
from zebra.errors import ShapeError
from zebra.models.blocks import Transformer

GROUP = 32
"""Texts run together: few enough to be of nearly one length once sorted, enough to fill the hardware."""


class TextTransformer(nn.Module):
    """A causal transformer pooled where the text ends.

    Differs: the published models always run all 77 positions. A causal state never depends on later tokens, so
    texts are sorted by length here and run in groups, each cut at its own longest text; the result is the same
    function.
    """

    def __init__(self, config: TextConfig, embed_dim: int) -> None:
        super().__init__()
        self.context_length = config.context_length
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.transformer = Transformer(config, causal=True)
        self.ln_final = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.text_projection = nn.Parameter(torch.empty(config.width, embed_dim))

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return embeddings [B, E], not yet of unit length.

        Args:
            tokens_BL: int64 ids, L ≤ context_length; a text ends at its largest id (the first one, if repeated).

        Raises:
            ShapeError: L exceeds the context length.
        """
        if tokens_BL.shape[1] > self.context_length:
            raise ShapeError(
                f"texts of {tokens_BL.shape[1]} tokens for a text tower of context length {self.context_length}; "
                "encode them with truncate=True or shorten them"
            )
        end_B = tokens_BL.argmax(dim=1)
        order_B = end_B.argsort()
        pooled = [self._pooled(tokens_BL[group], end_B[group]) for group in torch.split(order_B, GROUP)]
        pooled_BD = torch.cat(pooled)[order_B.argsort()]
        return self.ln_final(pooled_BD) @ self.text_projection

    def _pooled(self, tokens_BL: Tensor, end_B: Tensor) -> Tensor:
        """Return the states [B, D] at the ends of the texts; nothing behind the last of them is computed."""
        tokens_BL = tokens_BL[:, : int(end_B.max()) + 1]
        x_BLD = self.token_embedding(tokens_BL) + self.positional_embedding[: tokens_BL.shape[1]]
        x_BLD = self.transformer(x_BLD)
        return x_BLD[torch.arange(len(x_BLD), device=x_BLD.device), end_B]
