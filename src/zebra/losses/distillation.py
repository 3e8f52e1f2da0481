"""Distillation losses between the vectors of a student and a teacher."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import ShapeError


def feature_loss(student_RE: Tensor, teacher_RE: Tensor, group: ProcessGroup = SINGLE_PROCESS) -> Tensor:
    """Return the mean of 1 - cosine between the vectors of student and teacher (CLIP-KD, arXiv 2307.12732).

    Differs: CLIP-KD takes the squared distance. Between unit vectors that is twice this loss.

    Args:
        student_RE: Vectors of this process, [R, E].
        teacher_RE: Vectors of the teacher for the same items, [R, E], of any length.
        group: The processes that share the batch.

    Returns:
        The loss of the global batch, a scalar. In a group, each process has a part of the gradients: sum them.
        Computed in fp32 even under autocast.

    Raises:
        ShapeError: If the shapes differ, or are empty.
    """
    if student_RE.shape != teacher_RE.shape or student_RE.ndim != 2 or not student_RE.numel():
        raise ShapeError(
            "feature_loss needs the vectors of student and teacher as two non-empty [R, E] tensors of one shape, not "
            f"{tuple(student_RE.shape)} and {tuple(teacher_RE.shape)}"
        )
    with torch.autocast(student_RE.device.type, enabled=False):
        dtype = torch.promote_types(student_RE.dtype, torch.float32)
        cosine_R = F.cosine_similarity(student_RE.to(dtype), teacher_RE.to(dtype), dim=1)
        return group.all_reduce_sum((1 - cosine_R).sum()) / (group.world_size * len(student_RE))


def affinity_loss(
    image_RE: Tensor,
    text_NE: Tensor,
    teacher_image_RT: Tensor,
    teacher_text_NT: Tensor,
    logit_scale: Tensor | float,
    teacher_logit_scale: float,
    group: ProcessGroup = SINGLE_PROCESS,
    tile_rows: int = 1024,
) -> Tensor:
    """Return the mean KL divergence of the student's from the teacher's similarities (MobileCLIP, arXiv 2311.17049).

    Each image is a distribution over the texts of the batch, the softmax of its scaled similarities, and each text one
    over the images.

    Args:
        image_RE: Unit vectors of the images of this process.
        text_NE: Unit vectors of the texts of all processes, gathered.
        teacher_image_RT: The teacher's unit vectors of these images; T need not be E.
        teacher_text_NT: The teacher's unit vectors of the texts of all processes.
        logit_scale: The student's factor of the similarities, already exponentiated.
        teacher_logit_scale: The teacher's factor.
        group: The processes that share the batch; each computes the rows of its images and texts.
        tile_rows: Rows of logits in memory, each with N columns. The backward pass recomputes them.

    Returns:
        The loss of the global batch, a scalar: the mean of both directions. In a group, each process has a part of the
        gradients: sum them. Computed in fp32 even under autocast; fp64 vectors stay fp64.

    Raises:
        ShapeError: If the shapes do not match, or are empty.
    """
    num_rows, num_pairs = len(image_RE), group.world_size * len(image_RE)
    is_valid = (
        image_RE.ndim == teacher_image_RT.ndim == 2
        and text_NE.shape == (num_pairs, *image_RE.shape[1:])
        and len(teacher_image_RT) == num_rows
        and teacher_text_NT.shape == (num_pairs, *teacher_image_RT.shape[1:])
    )
    if not is_valid or not image_RE.numel():
        shapes = ", ".join(str(tuple(x.shape)) for x in (image_RE, text_NE, teacher_image_RT, teacher_text_NT))
        raise ShapeError(
            "affinity_loss needs images [R, E], texts [N, E] and of the teacher images [R, T] and texts [N, T], N = "
            f"{group.world_size} R, not {shapes}"
        )
    with torch.autocast(image_RE.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(image_RE.dtype, text_NE.dtype), torch.float32)
        image_RE, text_NE, teacher_image_RT, teacher_text_NT = (
            vectors.to(dtype) for vectors in (image_RE, text_NE, teacher_image_RT, teacher_text_NT)
        )
        image_NE, teacher_image_NT = group.all_gather(image_RE), group.all_gather(teacher_image_RT)
        own = slice(group.rank * num_rows, (group.rank + 1) * num_rows)
        divergence = _sum_divergences(
            image_RE, text_NE, teacher_image_RT, teacher_text_NT, logit_scale, teacher_logit_scale, tile_rows
        ) + _sum_divergences(
            text_NE[own], image_NE, teacher_text_NT[own], teacher_image_NT, logit_scale, teacher_logit_scale, tile_rows
        )
        return group.all_reduce_sum(divergence) / (2 * num_pairs)


def _sum_divergences(
    row_RE: Tensor,
    column_NE: Tensor,
    teacher_row_RT: Tensor,
    teacher_column_NT: Tensor,
    logit_scale: Tensor | float,
    teacher_logit_scale: float,
    tile_rows: int,
) -> Tensor:
    """Return the sum over rows of the KL divergence between two softmaxes over the columns, a scalar."""

    def sum_tile(row_KE: Tensor, teacher_row_KT: Tensor) -> Tensor:
        log_prob_KN = F.log_softmax(logit_scale * row_KE @ column_NE.T, dim=1)
        teacher_log_prob_KN = F.log_softmax(teacher_logit_scale * teacher_row_KT @ teacher_column_NT.T, dim=1)
        return F.kl_div(log_prob_KN, teacher_log_prob_KN, reduction="sum", log_target=True)

    tiles = list(zip(torch.split(row_RE, tile_rows), torch.split(teacher_row_RT, tile_rows), strict=True))
    if len(tiles) == 1:
        return sum_tile(*tiles[0])
    sums: list[Tensor] = [checkpoint(sum_tile, *tile, use_reentrant=False) for tile in tiles]
    return torch.stack(sums).sum()
