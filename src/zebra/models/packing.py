"""Texts of different lengths as one flat run of tokens: lengths [B] in, the place of every token out."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from zebra.models.blocks import Groups

MOST_GROUPS = 8
"""More would spare a few padded positions, and cost each block of the tower a round of small kernels apiece."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Where the tokens of B texts stand in one run of N positions, shorter texts first."""

    text_N: Tensor
    """Which text a position belongs to."""
    position_N: Tensor
    """Which of the text's tokens stands there."""
    end_B: Tensor
    """Where the last token of each text stands."""
    groups: Groups
    """How many texts of which length follow each other."""


def pack(length_B: Tensor) -> Packing:
    """Lay texts out one behind the other, padded to the longest of their group.

    Args:
        length_B: Tokens of each text, int64, at least one; on the CPU.
    """
    order_B = length_B.argsort(stable=True)
    lengths, counts = torch.unique_consecutive(length_B[order_B], return_counts=True)
    groups = merge(list(zip(counts.tolist(), lengths.tolist(), strict=True)))
    room_B = torch.tensor([length for num_texts, length in groups for _ in range(num_texts)])
    start_B = room_B.cumsum(0) - room_B
    text_N = order_B.repeat_interleave(room_B)
    position_N = torch.arange(len(text_N)) - start_B.repeat_interleave(room_B)
    end_B = torch.empty_like(order_B)
    end_B[order_B] = start_B + length_B[order_B] - 1
    return Packing(text_N, position_N, end_B, groups)


def merge(groups: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge neighbours, (texts, length) by rising length, where it pads least, until few enough are left."""
    groups = list(groups)
    while len(groups) > MOST_GROUPS:
        padded = [num * (longer - length) for (num, length), (_, longer) in pairwise(groups)]
        i = padded.index(min(padded))
        groups[i : i + 2] = [(groups[i][0] + groups[i + 1][0], groups[i + 1][1])]
    return groups
