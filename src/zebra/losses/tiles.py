"""A matrix of similarities, walked tile by tile: rows [R, E] and columns [C, E] in, one small block at a time out.

The R × C matrix is never held: each tile is computed where the last one stood. This is the memory pattern of Inf-CL
(Cheng et al. 2024, arXiv 2410.17243), in plain PyTorch for any device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from zebra.errors import ConfigError

MAX_TILE_ELEMENTS_CPU = 2**20
"""Most logits in a tile on a CPU: 4 MiB in fp32, which stay in its cache between the passes over them."""
MAX_TILE_ELEMENTS_ACCELERATOR = 2**23
"""Most logits in a tile on an accelerator, where only large kernels are worth their launch: 32 MiB in fp32."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One block of the matrix; its two tensors are overwritten by the next one."""

    rows: slice
    columns: slice
    logits: Tensor
    """The products of these rows and columns."""
    scratch: Tensor
    """Of the same shape, to work in; holds anything."""
    diagonal_offset: int
    """Which diagonal of the tile holds the matching pairs, as `torch.diagonal` counts them."""

    @property
    def matching_rows(self) -> slice:
        """The rows of the whole matrix whose match lies in this tile, in the order of its diagonal."""
        first = self.rows.start + max(0, -self.diagonal_offset)
        return slice(first, first + self.logits.diagonal(self.diagonal_offset).numel())


def iter_tiles(row_RE: Tensor, column_CE: Tensor, tile_rows: int, first_match: int = 0) -> Iterator[Tile]:
    """Compute `row_RE @ column_CE.T` block by block.

    Args:
        row_RE: The left side, in the precision to compute in.
        column_CE: The right side, of the same dtype and device.
        tile_rows: Most rows of a tile. It gets as many columns as the memory budget of its device allows.
        first_match: The column that matches row 0; row i matches column `first_match` + i. Not 0 where a process
            holds some of the rows and all of the columns.
    """
    num_rows, num_columns = len(row_RE), len(column_CE)
    tile_rows = min(tile_rows, num_rows)
    budget = MAX_TILE_ELEMENTS_CPU if row_RE.device.type == "cpu" else MAX_TILE_ELEMENTS_ACCELERATOR
    tile_columns = min(max(1, budget // tile_rows), num_columns)
    # Allocated once: fresh pages for every tile would cost as much as a pass over it.
    buffer, spare = (row_RE.new_empty(tile_rows * tile_columns) for _ in range(2))
    for top in range(0, num_rows, tile_rows):
        rows = slice(top, min(top + tile_rows, num_rows))
        for left in range(0, num_columns, tile_columns):
            columns = slice(left, min(left + tile_columns, num_columns))
            shape = (rows.stop - top, columns.stop - left)
            size = shape[0] * shape[1]
            logits = buffer[:size].view(shape)
            torch.mm(row_RE[rows], column_CE[columns].T, out=logits)
            yield Tile(
                rows, columns, logits, spare[:size].view(shape), diagonal_offset=top + first_match - left
            )


def forbid_double_backward() -> None:
    """Stop a backward pass through tiles that is itself to be differentiated.

    PyTorch's `once_differentiable` would let it pass where the incoming gradient is a constant, and the second
    derivative would be 0 in silence.

    Raises:
        ConfigError: The backward pass records a graph.
    """
    if torch.is_grad_enabled():
        raise ConfigError(
            "a loss in tiles can be differentiated once, and create_graph=True asks for its second derivative; "
            "give the loss tile_rows=None, which holds all N × N logits"
        )
