"""Texts that begin alike as one flat run of tokens, each distinct prefix once: token ids [B, L] in, its layout out.

A state of a causal tower depends on the tokens up to its own, so texts share the states of every prefix they share:
the texts form a tree whose nodes are their distinct prefixes. The run lists the nodes in the order of the sorted texts,
each text's own nodes behind one another, and is cut into stretches of equal length. A node attends to its ancestors,
and those lie either in its stretch or above the stretch's first node; so each stretch is one small attention, however
many texts share it, and whatever their lengths.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_SIZE = 64
"""Nodes that attend together: long enough for a matrix product, short enough to waste little on strangers."""


@dataclass(frozen=True, slots=True)
class PackedTexts:
    """N nodes in S stretches of N/S each; the last few may be fillers that belong to no text."""

    token_N: Tensor
    """The last token of the prefix."""
    position_N: Tensor
    """How many tokens it has before that one."""
    end_B: Tensor
    """The node of each whole text."""
    ancestor_SA: Tensor
    """The ancestors of each stretch's first node, as many as the deepest of them has."""
    mask_SQK: Tensor
    """Whether a stretch's node (Q = N/S) attends to a key (K = A + N/S: those above, then the stretch itself)."""

    def to(self, device: torch.device) -> "PackedTexts":
        """Return the run on a device."""
        parts = (self.token_N, self.position_N, self.end_B, self.ancestor_SA, self.mask_SQK)
        return PackedTexts(*(part.to(device) for part in parts))


def pack_texts(tokens_BL: NDArray[np.int64], length_B: NDArray[np.int64]) -> PackedTexts:
    """Lay out texts; what stands behind a text's end does not count.

    Args:
        tokens_BL: Token ids.
        length_B: Tokens of each text, at least one.
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
    fillers = S * Q - N
    first_S = np.arange(S) * Q
    depth_S = position_N[first_S]
    A = int(depth_S.max())
    above_SA = np.where(np.arange(A) < depth_S[:, None], node_BL[text_N[first_S], :A], -1)
    own_SQ = np.arange(S * Q).reshape(S, Q)
    last_N = np.append(_last_descendants(position_N), np.arange(N, S * Q))
    key_SK = np.hstack([above_SA, own_SQ])
    query_SQ1 = own_SQ[:, :, None]
    seen_SQK = (key_SK[:, None] <= query_SQ1) & (query_SQ1 <= last_N[key_SK][:, None])
    seen_SQK[:, :, :A] &= above_SA[:, None] >= 0
    return PackedTexts(
        torch.from_numpy(np.pad(tokens_BL[order_B][new_BL], (0, fillers))),
        torch.from_numpy(np.pad(position_N, (0, fillers))),
        torch.from_numpy(end_B),
        torch.from_numpy(above_SA.clip(0)),
        torch.from_numpy(seen_SQK),
    )


def sort_prefixes(
    tokens_BL: NDArray[np.int64], length_B: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the texts' sorted order [B], and where a text in this order has left the one before it [B, L]."""
    inside_BL = np.arange(tokens_BL.shape[1]) < length_B[:, None]
    known_BL = np.where(inside_BL, tokens_BL, -1)
    order_B = np.lexsort(known_BL.T[::-1])
    sorted_BL = known_BL[order_B]
    left_BL = np.ones_like(inside_BL)
    left_BL[1:] = sorted_BL[1:] != sorted_BL[:-1]
    return order_B, np.logical_or.accumulate(left_BL, axis=1) & inside_BL[order_B]


def split_batches(
    tokens_BL: NDArray[np.int64], length_B: NDArray[np.int64], max_nodes: int
) -> list[NDArray[np.int64]]:
    """Divide texts among runs, those that begin alike together; returns the indices of each run's texts.

    A run has at most `max_nodes` nodes more than its first text.
    """
    order_B, new_BL = sort_prefixes(tokens_BL, length_B)
    nodes_B = new_BL.sum(axis=1).cumsum()
    return np.split(order_B, np.flatnonzero(np.diff((nodes_B - 1) // max_nodes)) + 1)


def _last_descendants(position_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each node the last one that descends from it, itself if none does."""
    last_N = np.empty_like(position_N)
    for depth in range(int(position_N.max()) + 1):
        (level,) = np.nonzero(position_N == depth)
        (others,) = np.nonzero(position_N <= depth)
        after = np.searchsorted(others, level, side="right")
        last_N[level] = np.append(others, len(position_N))[after] - 1
    return last_N
