"""Similarities of images with texts that match none of them, block by block."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_BLOCK_ELEMENTS = 2**20
"""Maximum logits in memory; the backward pass computes each block again."""


def reduce_negatives(reduce: Callable[[Tensor], Tensor], row_RE: Tensor, negative_ME: Tensor) -> Tensor:
    """Return reduce(row_RE @ negative_ME.T) [R] without storing R × M logits.

    Args:
        reduce: From logits [B, M] to one number per row.
    """

    def reduce_block(rows_BE: Tensor, columns_ME: Tensor) -> Tensor:
        return reduce(rows_BE @ columns_ME.T)

    block_rows = max(1, MAX_BLOCK_ELEMENTS // len(negative_ME))
    blocks = [
        checkpoint(reduce_block, rows_BE, negative_ME, use_reentrant=False)
        for rows_BE in torch.split(row_RE, block_rows)
    ]
    return torch.cat(blocks)
