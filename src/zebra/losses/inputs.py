"""Validation and precision of the inputs of a loss."""

import torch
from torch import Tensor

from zebra.distributed import ProcessGroup
from zebra.errors import ConfigError, ShapeError


def prepare_pairs(
    loss_name: str, image_RE: Tensor, text_NE: Tensor, tile_rows: int | None, group: ProcessGroup
) -> tuple[Tensor, Tensor]:
    """Return both inputs in fp32, or in fp64 if either is fp64.

    Raises:
        ShapeError: If the shapes do not match, or are empty.
        ConfigError: If `tile_rows` is not positive.
    """
    shapes_match = image_RE.ndim == 2 and text_NE.shape == (group.world_size * len(image_RE), *image_RE.shape[1:])
    if not shapes_match or not image_RE.numel():
        needed = (
            "as two non-empty [N, E] tensors of one shape, with pair i in row i of both"
            if group.world_size == 1
            else f"as [R, E] of this process and [N, E] of all {group.world_size}, N = {group.world_size} R"
        )
        raise ShapeError(
            f"{loss_name} needs images and texts {needed}, not {tuple(image_RE.shape)} and {tuple(text_NE.shape)}"
        )
    if tile_rows is not None and tile_rows < 1:
        raise ConfigError(f"{loss_name}: tile_rows is {tile_rows}; give 1 or more, or None for all rows at once")
    dtype = torch.promote_types(torch.promote_types(image_RE.dtype, text_NE.dtype), torch.float32)
    return image_RE.to(dtype), text_NE.to(dtype)


def require_labels(loss_name: str, label_N: Tensor | None, num_pairs: int) -> None:
    """Raise ShapeError if there are labels, but not an integer for each pair."""
    if label_N is not None and (label_N.shape != (num_pairs,) or label_N.is_floating_point()):
        raise ShapeError(
            f"{loss_name} needs label_N as {num_pairs} integers, one for each pair, not {label_N.dtype} "
            f"{tuple(label_N.shape)}"
        )


def prepare_negatives(loss_name: str, negative_ME: Tensor | None, text_NE: Tensor) -> Tensor | None:
    """Return texts without an image in the precision of the other texts; None if there are none.

    Raises:
        ShapeError: If they are no vectors of the same width.
    """
    if negative_ME is None or not len(negative_ME):
        return None
    if negative_ME.ndim != 2 or negative_ME.shape[1] != text_NE.shape[1]:
        raise ShapeError(
            f"{loss_name} needs negative_ME as [M, {text_NE.shape[1]}], with the width of the other texts, not "
            f"{tuple(negative_ME.shape)}"
        )
    return negative_ME.to(text_NE.dtype)
