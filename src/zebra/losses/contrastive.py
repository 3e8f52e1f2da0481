"""Symmetric InfoNCE (CLIP §2.3, Fig. 3): N matching pairs in, one scalar out, without N × N numbers in memory.

Only the log-sum-exp of every row and column is kept, and tiles are computed a second time in the backward pass
(Inf-CL, Cheng et al. 2024, arXiv 2410.17243): four products of N × N × E instead of three.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.losses.inputs import prepare_pairs
from zebra.losses.tiles import forbid_double_backward, iter_tiles


def info_nce(
    image_NE: Tensor,
    text_NE: Tensor,
    logit_scale: Tensor | float,
    tile_rows: int | None = 1024,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Tensor:
    """Average the cross-entropy of finding each image's text and each text's image among N.

    Args:
        image_NE: Unit vectors [N, E]; of several processes, this one's images [R, E].
        text_NE: Unit vectors [N, E]; row i belongs to image i; of several processes, the texts of all (`World.rows`).
        logit_scale: The multiplier of cosine similarities, already exponentiated.
        tile_rows: Most rows of the N × N logits that exist at a time, in the backward pass too; how many columns,
            `zebra.losses.tiles` decides by memory. Alone, a batch no larger than this, or any with None, is computed
            whole.
        group: The processes that share the batch. Each computes its own rows; of the columns, a maximum and a sum are
            exchanged, N numbers each.

    Returns:
        The loss of the whole batch, a scalar; gradients flow to all three arguments, once. Those of several processes
        are parts, to be added up. Computed in fp32 even under autocast, since bf16 logits near 100 are half a unit
        apart; fp64 vectors stay fp64.

    Raises:
        ShapeError: The two sides do not fit, or are empty.
        ConfigError: `tile_rows` is not positive; in the backward pass of tiles, `create_graph=True` was given.
    """
    with torch.autocast(image_NE.device.type, enabled=False):
        image_NE, text_NE = prepare_pairs("info_nce", image_NE, text_NE, tile_rows, group)
        scaled_RE = logit_scale * image_NE
        if group.world_size == 1 and (tile_rows is None or len(image_NE) <= tile_rows):
            logits_NN = scaled_RE @ text_NE.T
            target_N = torch.arange(len(logits_NN), device=logits_NN.device)
            return (F.cross_entropy(logits_NN, target_N) + F.cross_entropy(logits_NN.T, target_N)) / 2
        first, rows = group.rank * len(image_NE), tile_rows or len(image_NE)
        parts: tuple[Tensor, ...] = TiledLogSumExp.apply(scaled_RE, text_NE, rows, first)  # type: ignore[no-untyped-call]  # so in torch
        match_R, row_max_R, row_sum_R, column_max_N, column_sum_N = parts
        max_N = group.all_reduce_max(column_max_N)
        mine_N = F.pad(match_R, (first, len(text_NE) - first - len(match_R)))
        sum_N, match_N = group.all_reduce_sum(
            torch.stack([column_sum_N * (column_max_N - max_N).exp(), mine_N])
        )
        # The large numbers are subtracted first: the cross-entropy of a pair found easily keeps its digits.
        image_to_text = group.all_reduce_sum(((row_max_R - match_R) + row_sum_R.log()).sum())
        text_to_image = ((max_N - match_N) + sum_N.log()).sum()
        loss: Tensor = (image_to_text + text_to_image) / (2 * len(text_NE))
        return loss


class TiledLogSumExp(torch.autograd.Function):
    """All that InfoNCE takes from the logits z = rows · columnsᵀ: matches, and log-sum-exps of rows and columns.

    A log-sum-exp comes in two parts, a maximum m and s = Σ exp(z - m), and is m + log s. It does not depend on m,
    so m passes no gradient. Processes that hold some rows each and all the columns have their rows' parts whole, and
    those of the columns after one exchange: m is the largest of theirs, s the sum of their s · exp(their m - m).
    """

    @staticmethod
    def forward(
        ctx: Any, row_RE: Tensor, column_CE: Tensor, tile_rows: int, first_match: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return match_R, row_max_R, row_sum_R, column_max_C, column_sum_C; the arguments are those of `tiles`."""
        match_R = row_RE.new_empty(len(row_RE))
        row_max_R, row_sum_R = torch.full_like(match_R, -torch.inf), torch.zeros_like(match_R)
        column_sum_C = row_RE.new_zeros(len(column_CE))
        column_max_C = torch.full_like(column_sum_C, -torch.inf)
        for tile in iter_tiles(row_RE, column_CE, tile_rows, first_match):
            match_R[tile.matching_rows] = tile.logits.diagonal(tile.diagonal_offset)
            _update_log_sum_exp(row_max_R[tile.rows], row_sum_R[tile.rows], tile.logits, 1, tile.scratch)
            _update_log_sum_exp(
                column_max_C[tile.columns], column_sum_C[tile.columns], tile.logits, 0, tile.scratch
            )
        ctx.save_for_backward(row_RE, column_CE, row_max_R, column_max_C)
        ctx.mark_non_differentiable(row_max_R, column_max_C)
        ctx.tile_rows, ctx.first_match = tile_rows, first_match
        return match_R, row_max_R, row_sum_R, column_max_C, column_sum_C

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients of `row_RE` and `column_CE`."""
        forbid_double_backward()
        grad_match_R, _, grad_row_sum_R, _, grad_column_sum_C = grads
        row_RE, column_CE, row_max_R, column_max_C = ctx.saved_tensors
        grad_row_RE = torch.zeros_like(row_RE) if ctx.needs_input_grad[0] else None
        grad_column_CE = torch.zeros_like(column_CE) if ctx.needs_input_grad[1] else None
        # Products in place or with `out` are never autocast, wherever backward is called.
        for tile in iter_tiles(row_RE, column_CE, ctx.tile_rows, ctx.first_match):
            rows, columns, logits = tile.rows, tile.columns, tile.logits
            grad = torch.sub(logits, row_max_R[rows, None], out=tile.scratch).exp_()
            grad.mul_(grad_row_sum_R[rows, None])
            grad.addcmul_(logits.sub_(column_max_C[columns]).exp_(), grad_column_sum_C[columns])
            grad.diagonal(tile.diagonal_offset).add_(grad_match_R[tile.matching_rows])
            if grad_row_RE is not None:
                grad_row_RE[rows].addmm_(grad, column_CE[columns])
            if grad_column_CE is not None:
                grad_column_CE[columns].addmm_(grad.T, row_RE[rows])
        return grad_row_RE, grad_column_CE, None, None


def _update_log_sum_exp(max_: Tensor, sum_: Tensor, logits: Tensor, dim: int, scratch: Tensor) -> None:
    """Take logits along `dim` into the running maximum and the running sum of exp(logit - maximum), in place."""
    new_max = torch.maximum(max_, logits.amax(dim))
    terms = torch.sub(logits, new_max.unsqueeze(dim), out=scratch).exp_()
    sum_.mul_((max_ - new_max).exp_()).add_(terms.sum(dim))
    max_.copy_(new_max)
