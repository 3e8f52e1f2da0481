"""Shared helpers of the loss tests: unit vectors, gradients and tile shapes."""

from collections.abc import Callable
from unittest.mock import patch

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F


def unit(n: int, e: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(torch.randn(n, e, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=1)


def tile_columns(rows: int, columns: int):
    """Patch the memory budget so that tiles of `rows` rows have this many columns."""
    return patch("zebra.losses.tiles.MAX_TILE_ELEMENTS_CPU", rows * columns)


def with_gradients(loss: Callable[..., Tensor], *values: Tensor, **options: int | None) -> list[Tensor]:
    leaves = [value.detach().clone().requires_grad_() for value in values]
    result = loss(*leaves, **options)
    return [result.detach(), *torch.autograd.grad(result, leaves)]


def under_autocast(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.autocast("cpu", torch.bfloat16)(loss)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Draw pairs, width, and the shape of a tile that is smaller than the matrix."""
    n = draw(st.integers(2, 23))
    return n, draw(st.integers(1, 9)), draw(st.integers(1, n - 1)), draw(st.integers(1, n))
