"""Packed texts: one flat sequence in which equal prefixes occur once.

A state of a causal tower depends only on the tokens up to its own, so texts with a common prefix have its states in
common. The texts form a prefix tree. The packed sequence lists its nodes in the order of the sorted texts, the new
nodes of a text one after another, and is split into blocks of equal length. The ancestors of a node are either in its
block or ancestors of the block's first node. So each block is one small attention, for any number of texts and any
lengths.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_SIZE = 64
"""Nodes per block: enough for an efficient matrix product, few enough to waste little on masked pairs."""


@dataclass(frozen=True, slots=True)
class PackedTexts:
    """N nodes in S blocks of N/S each; the last few may be padding that belongs to no text."""

    token_N: Tensor
    """The last token of each prefix."""
    position_N: Tensor
    """The position of that token in its text."""
    end_B: Tensor
    """The node of the last token of each text."""
    ancestor_SA: Tensor
    """The ancestors of each block's first node, padded to the deepest."""
    mask_SQK: Tensor
    """Whether a node of the block (Q = N/S) attends to a key (K = A + N/S: the ancestors, then the block itself)."""

    def to(self, device: torch.device) -> "PackedTexts":
        """Return the packed texts on a device."""
        parts = (self.token_N, self.position_N, self.end_B, self.ancestor_SA, self.mask_SQK)
        return PackedTexts(*(part.to(device) for part in parts))


def pack_texts(tokens_BL: NDArray[np.int64], length_B: NDArray[np.int64]) -> PackedTexts:
    """Pack texts; tokens after the end of a text are ignored.

    Args:
        tokens_BL: Token ids.
        length_B: Number of tokens of each text, at least one.
    """
    order_B, new_BL = sort_prefixes(tokens_BL, length_B)
    text_N, position_N = new_BL.nonzero()
    N = len(text_N)
    node_BL = np.where(new_BL, new_BL.ravel().cumsum().reshape(new_BL.shape) - 1, 0)
    node_BL = np.maximum.accumulate(node_BL, axis=0)
    end_B = np.empty_like(order_B)
    end_B[order_B] = node_BL[np.arange(len(order_B)), length_B[order_B] - 1]

    S = -(-N // BLOCK_SIZE)
    Q = -(-N // S)
    num_padding = S * Q - N
    first_S = np.arange(S) * Q
    depth_S = position_N[first_S]
    A = int(depth_S.max())
    ancestor_SA = np.where(np.arange(A) < depth_S[:, None], node_BL[text_N[first_S], :A], -1)
    query_SQ = np.arange(S * Q).reshape(S, Q)
    last_N = np.append(_last_descendants(position_N), np.arange(N, S * Q))
    key_SK = np.hstack([ancestor_SA, query_SQ])
    query_SQ1 = query_SQ[:, :, None]
    mask_SQK = (key_SK[:, None] <= query_SQ1) & (query_SQ1 <= last_N[key_SK][:, None])
    mask_SQK[:, :, :A] &= ancestor_SA[:, None] >= 0
    return PackedTexts(
        torch.from_numpy(np.pad(tokens_BL[order_B][new_BL], (0, num_padding))),
        torch.from_numpy(np.pad(position_N, (0, num_padding))),
        torch.from_numpy(end_B),
        torch.from_numpy(ancestor_SA.clip(0)),
        torch.from_numpy(mask_SQK),
    )


def sort_prefixes(
    tokens_BL: NDArray[np.int64], length_B: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the sorted order [B] of the texts, and which positions are new prefixes in this order [B, L]."""
    inside_BL = np.arange(tokens_BL.shape[1]) < length_B[:, None]
    masked_BL = np.where(inside_BL, tokens_BL, -1)
    order_B = np.lexsort(masked_BL.T[::-1])
    sorted_BL = masked_BL[order_B]
    differs_BL = np.ones_like(inside_BL)
    differs_BL[1:] = sorted_BL[1:] != sorted_BL[:-1]
    return order_B, np.logical_or.accumulate(differs_BL, axis=1) & inside_BL[order_B]


def split_batches(tokens_BL: NDArray[np.int64], length_B: NDArray[np.int64], max_nodes: int) -> list[NDArray[np.int64]]:
    """Split texts into batches with common prefixes together; return the text indices of each batch.

    A batch has at most `max_nodes` nodes more than its first text.
    """
    order_B, new_BL = sort_prefixes(tokens_BL, length_B)
    nodes_B = new_BL.sum(axis=1).cumsum()
    return np.split(order_B, np.flatnonzero(np.diff((nodes_B - 1) // max_nodes)) + 1)


def _last_descendants(position_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the last descendant of each node; the node itself if it has none."""
    last_N = np.empty_like(position_N)
    for depth in range(int(position_N.max()) + 1):
        (level,) = np.nonzero(position_N == depth)
        (others,) = np.nonzero(position_N <= depth)
        after = np.searchsorted(others, level, side="right")
        last_N[level] = np.append(others, len(position_N))[after] - 1
    return last_N
