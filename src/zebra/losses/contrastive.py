"""Symmetric InfoNCE (CLIP §2.3, Fig. 3), without storing N × N logits.

Only the log-sum-exp of every row and column is stored; the backward pass recomputes the tiles (Inf-CL, Cheng et al.
2024, arXiv 2410.17243). This takes four products of N × N × E instead of three.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.losses.inputs import prepare_negatives, prepare_pairs, require_labels
from zebra.losses.negatives import reduce_negatives
from zebra.losses.tiles import forbid_double_backward, iter_masked_tiles, mask_equal_labels


def info_nce(
    image_NE: Tensor,
    text_NE: Tensor,
    logit_scale: Tensor | float,
    tile_rows: int | None = 1024,
    group: ProcessGroup = SINGLE_PROCESS,
    label_N: Tensor | None = None,
    negative_ME: Tensor | None = None,
) -> Tensor:
    """Return the mean cross-entropy of image-to-text and text-to-image classification among N pairs.

    With labels, an image and a text of the same label are no negatives of each other: each pair is classified among
    itself and the pairs of other labels, so that repeated captions do not push their images apart.

    Args:
        image_NE: Unit vectors [N, E]; in a group, the local images [R, E].
        text_NE: Unit vectors [N, E], row i matching image i; in a group, the texts of all ranks, gathered.
        logit_scale: Multiplier of the cosine similarities, already exponentiated.
        tile_rows: Maximum rows of the N × N logits in memory, in the backward pass too; `zebra.losses.tiles` chooses
            the columns by memory. One process computes a batch of at most this size, or any with None, densely.
        group: The processes that share the batch. Each computes its own rows, and all-reduces a maximum and a sum per
            column.
        label_N: Integers [N] of the global batch; equal ones mark pairs that are no negatives. None: all differ.
        negative_ME: Unit vectors of M texts that match no image: further classes of each image (hard negatives). Equal
            in all ranks, each of which returns its part of their gradient.

    Returns:
        The loss of the global batch, a scalar, differentiable once in all three arguments. In a group, each process
        has a part of the gradients: sum them. Computed in fp32 even under autocast, because bf16 logits near 100 are
        0.5 apart; fp64 vectors stay fp64.

    Raises:
        ShapeError: If the shapes do not match, or are empty.
        ConfigError: If `tile_rows` is not positive, or a tiled backward pass has `create_graph=True`.
    """
    with torch.autocast(image_NE.device.type, enabled=False):
        image_NE, text_NE = prepare_pairs("info_nce", image_NE, text_NE, tile_rows, group)
        require_labels("info_nce", label_N, len(text_NE))
        negative_ME = prepare_negatives("info_nce", negative_ME, text_NE)
        scaled_RE = logit_scale * image_NE
        if group.world_size == 1 and (tile_rows is None or len(image_NE) <= tile_rows):
            logits_NN = mask_equal_labels(scaled_RE @ text_NE.T, label_N)
            target_N = torch.arange(len(logits_NN), device=logits_NN.device)
            text_to_image = F.cross_entropy(logits_NN.T, target_N)
            if negative_ME is not None:
                logits_NN = torch.cat([logits_NN, scaled_RE @ negative_ME.T], dim=1)
            return (F.cross_entropy(logits_NN, target_N) + text_to_image) / 2
        first, rows = group.rank * len(image_NE), tile_rows or len(image_NE)
        parts: tuple[Tensor, ...] = TiledLogSumExp.apply(scaled_RE, text_NE, rows, first, label_N)  # type: ignore[no-untyped-call]  # untyped in torch
        match_R, row_max_R, row_sum_R, column_max_N, column_sum_N = parts
        max_N = group.all_reduce_max(column_max_N)
        local_N = F.pad(match_R, (first, len(text_NE) - first - len(match_R)))
        sum_N, match_N = group.all_reduce_sum(torch.stack([column_sum_N * (column_max_N - max_N).exp(), local_N]))
        # Subtract the maximum first, so that small cross-entropies keep their precision.
        cross_entropy_R = (row_max_R - match_R) + row_sum_R.log()
        if negative_ME is not None:
            negative_R = reduce_negatives(partial(torch.logsumexp, dim=1), scaled_RE, negative_ME)
            cross_entropy_R = cross_entropy_R + F.softplus(negative_R - row_max_R - row_sum_R.log())
        image_to_text = group.all_reduce_sum(cross_entropy_R.sum())
        text_to_image = ((max_N - match_N) + sum_N.log()).sum()
        loss: Tensor = (image_to_text + text_to_image) / (2 * len(text_NE))
        return loss


class TiledLogSumExp(torch.autograd.Function):
    """The matching logits, and the log-sum-exp of each row and column of z = rows · columnsᵀ, computed in tiles.

    A log-sum-exp m + log s is returned as a maximum m and s = Σ exp(z - m). It does not depend on m, so m gets no
    gradient. A process with some rows and all columns has the final values of its rows. Those of the columns need an
    all-reduce: m is the maximum of the local m_r, and s the sum of s_r · exp(m_r - m).
    """

    @staticmethod
    def forward(
        ctx: Any, row_RE: Tensor, column_CE: Tensor, tile_rows: int, first_match: int, label_C: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return match_R, row_max_R, row_sum_R, column_max_C, column_sum_C; the arguments are those of `iter_tiles`."""
        match_R = row_RE.new_empty(len(row_RE))
        row_max_R, row_sum_R = torch.full_like(match_R, -torch.inf), torch.zeros_like(match_R)
        column_sum_C = row_RE.new_zeros(len(column_CE))
        column_max_C = torch.full_like(column_sum_C, -torch.inf)
        for tile in iter_masked_tiles(row_RE, column_CE, tile_rows, first_match, label_C):
            match_R[tile.matching_rows] = tile.logits.diagonal(tile.diagonal_offset)
            _update_log_sum_exp(row_max_R[tile.rows], row_sum_R[tile.rows], tile.logits, 1, tile.scratch)
            _update_log_sum_exp(column_max_C[tile.columns], column_sum_C[tile.columns], tile.logits, 0, tile.scratch)
        ctx.save_for_backward(row_RE, column_CE, row_max_R, column_max_C)
        ctx.mark_non_differentiable(row_max_R, column_max_C)
        ctx.tile_rows, ctx.first_match, ctx.label_C = tile_rows, first_match, label_C
        return match_R, row_max_R, row_sum_R, column_max_C, column_sum_C

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        """Return the gradients of `row_RE` and `column_CE`."""
        forbid_double_backward()
        grad_match_R, _, grad_row_sum_R, _, grad_column_sum_C = grads
        row_RE, column_CE, row_max_R, column_max_C = ctx.saved_tensors
        grad_row_RE = torch.zeros_like(row_RE) if ctx.needs_input_grad[0] else None
        grad_column_CE = torch.zeros_like(column_CE) if ctx.needs_input_grad[1] else None
        # In-place products and products with `out` are never autocast.
        for tile in iter_masked_tiles(row_RE, column_CE, ctx.tile_rows, ctx.first_match, ctx.label_C):
            rows, columns, logits = tile.rows, tile.columns, tile.logits
            grad = torch.sub(logits, row_max_R[rows, None], out=tile.scratch).exp_()
            grad.mul_(grad_row_sum_R[rows, None])
            grad.addcmul_(logits.sub_(column_max_C[columns]).exp_(), grad_column_sum_C[columns])
            grad.diagonal(tile.diagonal_offset).add_(grad_match_R[tile.matching_rows])
            if grad_row_RE is not None:
                grad_row_RE[rows].addmm_(grad, column_CE[columns])
            if grad_column_CE is not None:
                grad_column_CE[columns].addmm_(grad.T, row_RE[rows])
        return grad_row_RE, grad_column_CE, None, None, None


def _update_log_sum_exp(max_: Tensor, sum_: Tensor, logits: Tensor, dim: int, scratch: Tensor) -> None:
    """Update the running maximum and the running sum of exp(logit - maximum) along `dim`, in place."""
    new_max = torch.maximum(max_, logits.amax(dim))
    terms = torch.sub(logits, new_max.unsqueeze(dim), out=scratch).exp_()
    sum_.mul_((max_ - new_max).exp_()).add_(terms.sum(dim))
    max_.copy_(new_max)
