"""The causal text tower (CLIP §2.4): token ids [B, L] in, the end-of-text state projected to [B, E] out."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.config.model import TextConfig
from zebra.errors import ShapeError
from zebra.models.blocks import Transformer
from zebra.models.packing import pack


class TextTransformer(nn.Module):
    """A causal transformer pooled where the text ends.

    Differs: the published models always run all 77 positions. A causal state never depends on later tokens, so here
    texts are sorted by length and laid out in one run, each as long as the longest of its group, and the last block
    computes the ends alone. The result is the same function; which texts stand beside one moves it by rounding.
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
        packing = pack(tokens_BL.argmax(dim=1).cpu() + 1)
        text_N, position_N, end_B = (
            place.to(tokens_BL.device) for place in (packing.text_N, packing.position_N, packing.end_B)
        )
        x_ND = self.token_embedding(tokens_BL[text_N, position_N])
        x_ND = x_ND + F.embedding(position_N, self.positional_embedding)
        x_BD = self.transformer(x_ND, groups=packing.groups, kept=end_B)
        return self.ln_final(x_BD) @ self.text_projection
