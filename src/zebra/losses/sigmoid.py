"""Pairwise sigmoid loss (SigLIP, Zhai et al. 2023), without storing N × N logits.

Each image-text pair is one binary classification (Alg. 1), so only a running sum is stored. The backward pass
recomputes the tiles.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.losses.inputs import prepare_negatives, prepare_pairs, require_labels
from zebra.losses.negatives import reduce_negatives
from zebra.losses.tiles import Tile, forbid_double_backward, iter_masked_tiles, mask_equal_labels


def sigmoid_loss(
    image_NE: Tensor,
    text_NE: Tensor,
    logit_scale: Tensor | float,
    logit_bias: Tensor | float,
    tile_rows: int | None = 1024,
    group: ProcessGroup = SINGLE_PROCESS,
    label_N: Tensor | None = None,
    negative_ME: Tensor | None = None,
) -> Tensor:
    """Return the binary log loss of all image-text pairs, summed over texts and averaged over images.

    Args:
        image_NE: Unit vectors [N, E]; in a group, the local images [R, E].
        text_NE: Unit vectors [N, E], row i matching image i; in a group, the texts of all ranks, gathered.
        logit_scale: Multiplier of the cosine similarities, already exponentiated.
        logit_bias: Added to every scaled similarity; initially negative, because nearly all pairs are negative.
        tile_rows: As in `info_nce`.
        group: The processes that share the batch; each computes the rows of its own images.
        label_N: Integers [N] of the global batch. An image and a text of another pair with the same label take no
            part: they are no negatives, and as further positives they would outweigh the negatives. None: all differ.
        negative_ME: As in `info_nce`: further texts, none of which matches any image.

    Returns:
        The loss of the global batch, a scalar, differentiable once in the first four arguments. In a group, each
        process has a part of the gradients: sum them. Computed in fp32 even under autocast; fp64 vectors stay fp64.

    Raises:
        ShapeError: If the shapes do not match, or are empty.
        ConfigError: If `tile_rows` is not positive, or a tiled backward pass has `create_graph=True`.
    """
    with torch.autocast(image_NE.device.type, enabled=False):
        image_NE, text_NE = prepare_pairs("sigmoid_loss", image_NE, text_NE, tile_rows, group)
        num_pairs = len(text_NE)
        require_labels("sigmoid_loss", label_N, num_pairs)
        negative_ME = prepare_negatives("sigmoid_loss", negative_ME, text_NE)
        scaled_RE = logit_scale * image_NE
        from_negatives = scaled_RE.new_zeros(())
        if negative_ME is not None:
            parts_R = reduce_negatives(lambda z: F.softplus(z + logit_bias).sum(dim=1), scaled_RE, negative_ME)
            from_negatives = group.all_reduce_sum(parts_R.sum()) / num_pairs
        if group.world_size == 1 and (tile_rows is None or num_pairs <= tile_rows):
            logits_NN = mask_equal_labels(scaled_RE @ text_NE.T + logit_bias, label_N)
            sign_NN = 2 * torch.eye(num_pairs, dtype=logits_NN.dtype, device=logits_NN.device) - 1
            return -F.logsigmoid(sign_NN * logits_NN).sum() / num_pairs + from_negatives
        bias = torch.as_tensor(logit_bias, dtype=scaled_RE.dtype, device=scaled_RE.device)
        first, rows = group.rank * len(image_NE), tile_rows or len(image_NE)
        total: Tensor = TiledLogSigmoid.apply(scaled_RE, text_NE, bias, rows, first, label_N)  # type: ignore[no-untyped-call]  # untyped in torch
        return group.all_reduce_sum(total) / num_pairs + from_negatives


class TiledLogSigmoid(torch.autograd.Function):
    """The sum of log losses over all rows and columns, computed in tiles."""

    @staticmethod
    def forward(
        ctx: Any,
        row_RE: Tensor,
        column_CE: Tensor,
        bias: Tensor,
        tile_rows: int,
        first_match: int,
        label_C: Tensor | None,
    ) -> Tensor:
        """Return Σ log(1 + exp(±z)), z = rows · columnsᵀ + bias, with a minus for matching pairs; see `iter_tiles`."""
        total, zero = row_RE.new_zeros(()), row_RE.new_zeros(())
        for tile in iter_masked_tiles(row_RE, column_CE, tile_rows, first_match, label_C):
            total += torch.logaddexp(_negate_matching_logits(tile, bias), zero, out=tile.scratch).sum()
        ctx.save_for_backward(row_RE, column_CE, bias)
        ctx.tile_rows, ctx.first_match, ctx.label_C = tile_rows, first_match, label_C
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        """Return the gradients of `row_RE`, `column_CE` and `bias`."""
        forbid_double_backward()
        row_RE, column_CE, bias = ctx.saved_tensors
        grads = tuple(
            torch.zeros_like(value) if needed else None
            for value, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[:3], strict=True)
        )
        grad_row_RE, grad_column_CE, grad_bias = grads
        # In-place products and products with `out` are never autocast.
        for tile in iter_masked_tiles(row_RE, column_CE, ctx.tile_rows, ctx.first_match, ctx.label_C):
            grad = _negate_matching_logits(tile, bias).sigmoid_()
            grad.diagonal(tile.diagonal_offset).neg_()
            if grad_row_RE is not None:
                grad_row_RE[tile.rows].addmm_(grad, column_CE[tile.columns])
            if grad_column_CE is not None:
                grad_column_CE[tile.columns].addmm_(grad.T, row_RE[tile.rows])
            if grad_bias is not None:
                grad_bias += grad.sum()
        for grad_of_sum in grads:
            if grad_of_sum is not None:
                grad_of_sum.mul_(grad_total)
        return grad_row_RE, grad_column_CE, grad_bias, None, None, None


def _negate_matching_logits(tile: Tile, bias: Tensor) -> Tensor:
    """Add the bias to a tile's logits and negate those of matching pairs, in place."""
    logits = tile.logits.add_(bias)
    logits.diagonal(tile.diagonal_offset).neg_()
    return logits
