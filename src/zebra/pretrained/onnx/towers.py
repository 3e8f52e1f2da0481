"""Towers in a form that torch can export.

No operation of them depends on the values of the inputs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.models.image.naflex import NaflexVision
from zebra.models.text.bert import BertText
from zebra.models.text.causal import TextTransformer
from zebra.models.text.coca import CocaText
from zebra.models.text.transformers_text import TransformersText
from zebra.models.towers import TextTower
from zebra.values import PatchBatch


def has_fixed_length(tower: TextTower) -> bool:
    """Return whether a text tower needs texts that are padded to its context length."""
    return not isinstance(tower, TextTransformer | BertText | TransformersText)


def to_exportable(tower: TextTower) -> nn.Module:
    """Return a module of the same function whose operations do not depend on the values of the tokens."""
    match tower:
        case TextTransformer():
            return _UnpackedTextTower(tower)
        case BertText():
            return _PaddedBertTower(tower)
        case CocaText():
            return _PaddedCocaTower(tower)
    return tower


class _PaddedBertTower(nn.Module):
    """A tower of the BERT family with padding and a mask; its own order of tokens depends on the lengths of texts."""

    def __init__(self, tower: BertText) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return the embeddings of the tower [B, E], not normalized."""
        tower, is_token_BL = self.tower, tokens_BL != self.tower.pad_id
        x_BLD = tower.ln_pre(tower.token_embedding(tokens_BL) + tower.positional_embedding[: tokens_BL.shape[1]])
        x_BLD = tower.transformer(x_BLD, attn_mask=is_token_BL[:, None, None])
        if tower.pooling != "mean":
            return tower.project(x_BLD[:, 0])
        weight_BL1 = is_token_BL[..., None].to(x_BLD.dtype)
        return tower.project((x_BLD * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1))


class _UnpackedTextTower(nn.Module):
    """The causal text tower without packing of common prefixes, which depends on the values of the tokens."""

    def __init__(self, tower: TextTransformer) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return the embeddings of the tower [B, E], not normalized."""
        tower = self.tower
        x_BLD = tower.token_embedding(tokens_BL) + tower.positional_embedding[: tokens_BL.shape[1]]
        position = torch.arange(tokens_BL.shape[1])
        x_BLD = tower.transformer(x_BLD, attn_mask=position <= position[:, None])
        # len() would fix the batch size to that of the example.
        pooled_BD = x_BLD[torch.arange(tokens_BL.shape[0]), tower.end_position(tokens_BL)]
        vectors_BE: Tensor = tower.ln_final(pooled_BD) @ tower.text_projection
        return vectors_BE


class _PaddedCocaTower(nn.Module):
    """CoCa's text tower over the whole context; it shortens texts by the longest one."""

    def __init__(self, tower: CocaText) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return the embeddings of the tower [B, E], not normalized."""
        return self.tower.encode_padded(tokens_BL)


class MaskedNaflexTower(nn.Module):
    """A NaFlex tower that computes from the grids which patches are padding."""

    def __init__(self, tower: NaflexVision) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, patches_BPI: Tensor, grid_B2: Tensor) -> Tensor:
        """Return the embeddings of the tower [B, E], not normalized."""
        mask_BP = torch.arange(patches_BPI.shape[1]) < grid_B2.prod(dim=1, keepdim=True)
        vectors_BE: Tensor = self.tower(PatchBatch(patches_BPI, grid_B2, mask_BP))
        return vectors_BE


class NormalizedTower(nn.Module):
    """A tower followed by normalization to unit length."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return unit vectors [B, E]."""
        return F.normalize(self.tower(*inputs), dim=-1)
