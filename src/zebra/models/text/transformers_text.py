"""Text towers that Hugging Face transformers computes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zebra.config.transformers_towers import TransformersTextConfig
from zebra.errors import ShapeError
from zebra.models.transformers_encoder import build_encoder, build_projection, pool
from zebra.models.transformers_tower import TransformersTower

MAX_TOKENS = 2048
"""Tokens per inference batch, including padding."""


class TransformersText(TransformersTower):
    """A text encoder of the library (`transformer`), pooled and projected (`proj`).

    Names of tensors are those of open_clip's text towers with `hf_model_name`. Padding is on the right and not attended
    to, so that columns of padding only are cut off without an effect on the vectors.
    """

    encoder_name = "transformer"

    def __init__(self, config: TransformersTextConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.context_length = config.context_length
        self.pad_id = config.pad_id
        self.transformer = build_encoder(config)
        self.proj = build_projection(
            config.projection, config.width, config.projection_width, embed_dim, config.config_path
        )

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return embeddings [B, E], not yet of unit length.

        Args:
            tokens_BL: int64 ids, L ≤ context_length, padded on the right.

        Raises:
            ShapeError: If L exceeds the context length.
        """
        if tokens_BL.shape[1] > self.context_length:
            raise ShapeError(
                f"texts of {tokens_BL.shape[1]} tokens for a text tower of context length {self.context_length}; "
                "encode with truncate=True, or shorten the texts"
            )
        if not torch.compiler.is_exporting():  # a graph has no shapes that depend on ids
            tokens_BL = tokens_BL[:, : int(_count_tokens(tokens_BL.cpu().numpy(), self.pad_id).max(initial=1))]
        tokens_BL = tokens_BL.to(next(self.parameters()).device)
        mask_BL = torch.ones_like(tokens_BL) if self.pad_id is None else (tokens_BL != self.pad_id).long()
        output = self.transformer(input_ids=tokens_BL, attention_mask=mask_BL)
        return self.proj(pool(output, self.config.pooling, mask_BL))

    def inference_batches(self, tokens_NL: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Split texts into inference batches, as indices, with texts of similar length together."""
        length_N = _count_tokens(tokens_NL, self.pad_id)
        order_N = np.argsort(-length_N, kind="stable")
        batches, start = [], 0
        while start < len(order_N):
            stop = start + max(1, MAX_TOKENS // int(length_N[order_N[start]]))
            batches.append(order_N[start:stop])
            start = stop
        return batches


def _count_tokens(tokens_NL: NDArray[np.int64], pad_id: int | None) -> NDArray[np.int64]:
    """Return the length of each text without padding, at least 1."""
    if pad_id is None:
        return tokens_NL.argmax(axis=1) + 1
    is_token_NL = tokens_NL != pad_id
    last_N = tokens_NL.shape[1] - is_token_NL[:, ::-1].argmax(axis=1)
    length_N: NDArray[np.int64] = np.where(is_token_NL.any(axis=1), last_N, 1)
    return length_N
