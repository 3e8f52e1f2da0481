"""The two sides of a loss in, checked and in the precision it is computed in out."""

import torch
from torch import Tensor

from zebra.errors import ConfigError, ShapeError


def pairs(loss: str, image_NE: Tensor, text_NE: Tensor, tile_rows: int | None) -> tuple[Tensor, Tensor]:
    """Return both sides in fp32, or in fp64 where one of them is.

    Raises:
        ShapeError: The two sides differ in shape, or are empty.
        ConfigError: `tile_rows` is not positive.
    """
    if image_NE.shape != text_NE.shape or image_NE.ndim != 2 or not image_NE.numel():
        raise ShapeError(
            f"{loss} needs images and texts as two filled [N, E] tensors of one shape, row i of both being pair i, "
            f"not {tuple(image_NE.shape)} and {tuple(text_NE.shape)}"
        )
    if tile_rows is not None and tile_rows < 1:
        raise ConfigError(f"{loss}: tile_rows is {tile_rows}; give 1 or more, or None for all rows at once")
    dtype = torch.promote_types(torch.promote_types(image_NE.dtype, text_NE.dtype), torch.float32)
    return image_NE.to(dtype), text_NE.to(dtype)
