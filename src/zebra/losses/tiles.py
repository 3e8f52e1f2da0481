"""Tiles of a similarity matrix, computed one by one in the same memory.

The R × C matrix of rows [R, E] and columns [C, E] is never stored. This is the memory pattern of Inf-CL (Cheng et al.
2024, arXiv 2410.17243), in plain PyTorch for any device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from zebra.errors import ConfigError

MAX_TILE_ELEMENTS_CPU = 2**20
"""Maximum logits of a tile on a CPU: 4 MiB in fp32, which stay in the cache between passes."""
MAX_TILE_ELEMENTS_ACCELERATOR = 2**23
"""Maximum logits of a tile on an accelerator: 32 MiB in fp32; smaller kernels are dominated by launch overhead."""

MASKED_LOGIT = -1e30
"""Logit of a pair that takes no part. Finite, so that a tile of such pairs alone has a maximum to subtract."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One block of the matrix; the next tile overwrites its two tensors."""

    rows: slice
    columns: slice
    logits: Tensor
    """The products of these rows and columns."""
    scratch: Tensor
    """A buffer of the same shape with undefined contents."""
    diagonal_offset: int
    """The diagonal with the matching pairs, as the offset of `torch.diagonal`."""

    @property
    def matching_rows(self) -> slice:
        """Return the rows of the full matrix whose match is in this tile, in the order of its diagonal."""
        first = self.rows.start + max(0, -self.diagonal_offset)
        return slice(first, first + self.logits.diagonal(self.diagonal_offset).numel())


def iter_tiles(row_RE: Tensor, column_CE: Tensor, tile_rows: int, first_match: int = 0) -> Iterator[Tile]:
    """Yield `row_RE @ column_CE.T` tile by tile.

    Args:
        row_RE: The left factor, in the precision of the computation.
        column_CE: The right factor, of the same dtype and device.
        tile_rows: Maximum rows of a tile; the columns follow from the memory budget of the device.
        first_match: The column that matches row 0; row i matches column `first_match` + i. Not 0 if a process has
            only some of the rows.
    """
    num_rows, num_columns = len(row_RE), len(column_CE)
    tile_rows = min(tile_rows, num_rows)
    budget = MAX_TILE_ELEMENTS_CPU if row_RE.device.type == "cpu" else MAX_TILE_ELEMENTS_ACCELERATOR
    tile_columns = min(max(1, budget // tile_rows), num_columns)
    # Allocated once: fresh pages for every tile would cost as much as a pass over it.
    logits_buffer, scratch_buffer = (row_RE.new_empty(tile_rows * tile_columns) for _ in range(2))
    for top in range(0, num_rows, tile_rows):
        rows = slice(top, min(top + tile_rows, num_rows))
        for left in range(0, num_columns, tile_columns):
            columns = slice(left, min(left + tile_columns, num_columns))
            shape = (rows.stop - top, columns.stop - left)
            size = shape[0] * shape[1]
            logits = logits_buffer[:size].view(shape)
            torch.mm(row_RE[rows], column_CE[columns].T, out=logits)
            yield Tile(
                rows, columns, logits, scratch_buffer[:size].view(shape), diagonal_offset=top + first_match - left
            )


def iter_masked_tiles(
    row_RE: Tensor, column_CE: Tensor, tile_rows: int, first_match: int, label_C: Tensor | None
) -> Iterator[Tile]:
    """Yield tiles as `iter_tiles`; logits of two pairs with one label are MASKED_LOGIT.

    Args:
        label_C: A label per column, int64; row i has that of column `first_match` + i. None masks nothing.
    """
    is_equal = row_RE.new_empty(0, dtype=torch.bool)
    for tile in iter_tiles(row_RE, column_CE, tile_rows, first_match):
        if label_C is not None:
            diagonal = tile.logits.diagonal(tile.diagonal_offset)
            own = diagonal.clone()
            row_label = label_C[first_match + tile.rows.start : first_match + tile.rows.stop]
            is_equal.resize_(tile.logits.shape)  # allocated once: no later tile is larger
            torch.eq(row_label[:, None], label_C[tile.columns], out=is_equal)
            tile.logits.masked_fill_(is_equal, MASKED_LOGIT)
            diagonal.copy_(own)
        yield tile


def mask_equal_labels(logits_NN: Tensor, label_N: Tensor | None) -> Tensor:
    """Return the full matrix of logits with MASKED_LOGIT for two pairs with one label."""
    if label_N is None:
        return logits_NN
    is_own_NN = torch.eye(len(label_N), dtype=torch.bool, device=label_N.device)
    return logits_NN.masked_fill((label_N[:, None] == label_N) & ~is_own_NN, MASKED_LOGIT)


def forbid_double_backward() -> None:
    """Raise an error in a tiled backward pass that is to be differentiated again.

    PyTorch's `once_differentiable` does not notice it if the incoming gradient is a constant; the second derivative
    would silently be 0.

    Raises:
        ConfigError: If the backward pass records a graph.
    """
    if torch.is_grad_enabled():
        raise ConfigError(
            "a tiled loss does not support double backward (create_graph=True). Pass tile_rows=None to the loss, which "
            "stores all N × N logits."
        )
