"""Text towers of the BERT family: BERT, RoBERTa, XLM-R and DistilBERT.

References: Devlin et al. 2018 (arXiv 1810.04805), Liu et al. 2019 (arXiv 1907.11692), `modeling_bert.py` of
transformers 5.24 and `hf_model.py` of open_clip 3.3.0.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.config.text_towers import BertTextConfig
from zebra.errors import ShapeError
from zebra.models.length_groups import sort_by_length, split_by_length
from zebra.models.transformer import PostNormBlock, Transformer

MAX_TOKENS = 2048
"""Tokens per inference batch: enough for efficient matrix products, few enough for the CPU caches."""


class BertText(nn.Module):
    """A bidirectional post-norm transformer over texts without padding.

    Differs: the published models add three embeddings to a token: its word, its position and the type of its sentence,
    which is always the first. Here `positional_embedding` includes that type, and its first row is the position of the
    first token, which RoBERTa counts from `pad_id` + 1. There is no dropout.
    """

    def __init__(self, config: BertTextConfig, embed_dim: int) -> None:
        super().__init__()
        self.context_length, self.pad_id, self.pooling = config.context_length, config.pad_id, config.pooling
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.ln_pre = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.transformer = Transformer(config, PostNormBlock)
        self.pooler = nn.Linear(config.width, config.width) if config.pooling == "pooler" else None
        self.ln_final = nn.LayerNorm(config.width, eps=config.norm_eps) if config.projection_norm else nn.Identity()
        self.text_projection = _build_projection(config, embed_dim)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return embeddings [B, E], not yet of unit length.

        Args:
            tokens_BL: int64 ids, padded on the right with the config's `pad_id`; padding is not computed. Pass them on
                the CPU, where they are sorted, to avoid a GPU synchronization.

        Raises:
            ShapeError: If a text is empty, longer than the context length, or contains the padding id.
        """
        tokens_BL = tokens_BL.cpu()
        texts = sort_by_length(tokens_BL.numpy(), self.count_tokens(tokens_BL.numpy()))
        texts = texts.to(self.positional_embedding.device)
        x_ND = self.ln_pre(
            self.token_embedding(texts.token_N) + F.embedding(texts.position_N, self.positional_embedding)
        )
        if self.pooling == "mean":
            return self.project(texts.mean(self.transformer(x_ND, attn_mask=texts)))
        return self.project(self.transformer(x_ND, attn_mask=texts, output_index=texts.first_B))

    def project(self, pooled_BD: Tensor) -> Tensor:
        """Return the embeddings [B, E] of pooled tokens."""
        if self.pooler is not None:
            pooled_BD = self.pooler(pooled_BD).tanh()
        return self.text_projection(self.ln_final(pooled_BD))

    def inference_batches(self, tokens_NL: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Split texts into inference batches, as indices, with similar lengths together."""
        return split_by_length(self.count_tokens(tokens_NL), MAX_TOKENS)

    def count_tokens(self, tokens_BL: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of tokens [B] of each text: the length of a row without the padding at its end.

        Raises:
            ShapeError: If a text is empty, longer than the context length, or contains the padding id.
        """
        is_token_BL = tokens_BL != self.pad_id
        length_B: NDArray[np.int64] = is_token_BL.sum(axis=1)
        if length_B.max(initial=0) > self.context_length:
            raise ShapeError(
                f"texts of {length_B.max()} tokens for a text tower of context length {self.context_length}; encode "
                "with truncate=True, or shorten the texts"
            )
        is_padded_right_B = (is_token_BL == (np.arange(tokens_BL.shape[1]) < length_B[:, None])).all(axis=1)
        if not (is_padded_right_B & (length_B > 0)).all():
            raise ShapeError(
                f"text {int((is_padded_right_B & (length_B > 0)).argmin())} is empty, or has the padding id "
                f"{self.pad_id} before its end. Encode texts with the model's own tokenizer, which pads on the right."
            )
        return length_B


def _build_projection(config: BertTextConfig, embed_dim: int) -> nn.Module:
    """Build the projection; the layers of an MLP have the names of open_clip's `HFTextEncoder.proj`."""
    if config.projection == "none":
        return nn.Identity()
    if config.projection == "linear":
        return nn.Linear(config.width, embed_dim, bias=config.projection_bias)
    hidden = (config.width + embed_dim) // 2
    return nn.Sequential(
        nn.Linear(config.width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, embed_dim, bias=False)
    )
