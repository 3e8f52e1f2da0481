"""Texts of a bidirectional tower as one flat sequence, sorted by length.

Such a tower needs every token of a text, so nothing is shared between texts as in `packing`. Linear layers and norms
process the tokens of all texts as one sequence [N, D] without padding. Attention processes the texts of each length as
one batch without a mask.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TextsByLength:
    """B texts as N tokens: one text after the other, the shortest first."""

    token_N: Tensor
    """Token ids."""
    position_N: Tensor
    """The position of each token in its text."""
    first_B: Tensor
    """The index in N of the first token of each text."""
    rank_B: Tensor
    """The rank of each text in the sorted order."""
    groups: tuple[tuple[int, int], ...]
    """The number of texts of each length, and the length."""

    def to(self, device: torch.device) -> "TextsByLength":
        """Return the texts on a device."""
        return TextsByLength(
            self.token_N.to(device),
            self.position_N.to(device),
            self.first_B.to(device),
            self.rank_B.to(device),
            self.groups,
        )

    def split(self, x_ND: Tensor) -> list[Tensor]:
        """Return the values of the tokens by length, each [number of texts, length, D]."""
        parts = torch.split(x_ND, [count * length for count, length in self.groups])
        return [part.view(*group, -1) for part, group in zip(parts, self.groups, strict=True)]

    def mean(self, x_ND: Tensor) -> Tensor:
        """Return the mean over the tokens of each text, [B, D]."""
        return torch.cat([group.mean(dim=1) for group in self.split(x_ND)])[self.rank_B]


def sort_by_length(tokens_BL: NDArray[np.int64], length_B: NDArray[np.int64]) -> TextsByLength:
    """Sort texts by length; tokens after the end of a text are ignored.

    Args:
        tokens_BL: Token ids.
        length_B: Number of tokens of each text, at least one.
    """
    order_B = length_B.argsort(kind="stable")
    text_N, position_N = (np.arange(tokens_BL.shape[1]) < length_B[order_B, None]).nonzero()
    rank_B = order_B.argsort()
    lengths, counts = np.unique(length_B, return_counts=True)
    return TextsByLength(
        torch.from_numpy(tokens_BL[order_B][text_N, position_N]),
        torch.from_numpy(position_N),
        torch.from_numpy(np.flatnonzero(position_N == 0)[rank_B]),
        torch.from_numpy(rank_B),
        groups=tuple(zip(counts.tolist(), lengths.tolist(), strict=True)),
    )


def split_by_length(length_B: NDArray[np.int64], max_tokens: int) -> list[NDArray[np.int64]]:
    """Split texts into batches of similar lengths; return the text indices of each batch.

    A batch has at most `max_tokens` tokens more than its first text.
    """
    order_B = length_B.argsort(kind="stable")
    last_token_B = length_B[order_B].cumsum() - 1
    return np.split(order_B, np.flatnonzero(np.diff(last_token_B // max_tokens)) + 1)
