"""One optimizer step: forward, loss, backward, gradient clipping and update."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zebra.config.train import TrainPrecision
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import DivergenceError
from zebra.models import CLIP
from zebra.train.grad_cache import embed_in_chunks
from zebra.train.hard_negatives import select_negatives
from zebra.train.objective import NO_TARGETS, Targets, loss_terms
from zebra.train.parallel import ForwardFn, all_reduce_replicated_grads, clip_grad_norm_
from zebra.train.preservation import AnchorBatch, preservation_terms
from zebra.values import PatchBatch


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """Metrics of one step, computed before its update."""

    loss: float
    grad_norm: float
    """Global gradient norm before clipping."""
    logit_scale: float
    """Factor of the similarities, exp of the parameter."""
    batch_accuracy: float
    """Fraction of the B images whose own text, or one with its label, has the highest similarity in the batch."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """Terms of the loss by name."""
    hard_negatives: tuple[int, int] | None = None
    """Number of hard negatives that were used, and of those dropped as captions of the batch; None without a column."""


def train_step(
    model: CLIP,
    optimizer: torch.optim.Optimizer,
    images: Tensor | PatchBatch,
    tokens_BL: Tensor,
    ids_keep_BK: Tensor | None = None,
    *,
    targets: Targets = NO_TARGETS,
    anchors: AnchorBatch | None = None,
    lr: float,
    grad_clip_norm: float,
    precision: TrainPrecision,
    chunk_size: int | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
    forward_fn: ForwardFn | None = None,
) -> StepMetrics:
    """Take one step on a batch of matching pairs, with InfoNCE or, if the model has a logit bias, the sigmoid loss.

    Args:
        images: Normalized pixels [B, 3, H, W] or patches, float32.
        tokens_BL: Token ids, int64; row i belongs to image i. The hard negatives of `targets` follow in further rows.
        ids_keep_BK: Indices of the patches that the image tower sees, int64; None keeps all patches.
        targets: What the pairs of this process are trained towards, besides matching their own texts.
        anchors: Generic images and texts whose vectors must stay near those of the initial model.
        lr: Learning rate of this step.
        grad_clip_norm: Largest gradient norm; 0 disables clipping.
        precision: Precision of the towers; the loss is always computed in fp32.
        chunk_size: Largest number of pairs per forward pass, for batches that do not fit into memory. The step has the
            same result and takes up to a third longer; see `zebra.train.grad_cache` for batch norm. None uses the
            whole batch.
        group: Processes that take the step together, each on its slice of the batch.
        forward_fn: The model as `parallelize` returns it; None uses the model itself.

    Returns:
        Metrics of the global batch, equal in all processes.

    Raises:
        DivergenceError: The loss or the gradient is NaN or infinite. No process has updated its weights.
    """
    optimizer.zero_grad(set_to_none=True)
    forward_fn = forward_fn or model
    num_pairs = len(tokens_BL) - (0 if targets.negatives is None else len(targets.negatives.label_H))
    inputs = (images, tokens_BL) if ids_keep_BK is None else (images, tokens_BL, ids_keep_BK)
    image_BE, text_BE, logit_scale = embed_in_chunks(
        model, forward_fn, inputs, num_pairs=num_pairs, chunk_size=chunk_size, precision=precision
    )
    negatives = None
    if targets.negatives is not None:
        negatives = select_negatives(targets.negatives, text_BE[num_pairs:], group)
        text_BE = text_BE[:num_pairs]
    text_NE = group.all_gather(text_BE)
    label_N = None if targets.label_B is None else group.all_gather(targets.label_B)
    negative_ME = None if negatives is None else negatives.text_ME
    terms = loss_terms(model, image_BE, text_NE, logit_scale, label_N, targets, group, negative_ME)
    if anchors is not None:
        # The bare model: like all chunks but the last one, it communicates nothing.
        anchor_inputs = (anchors.images, anchors.tokens_ML)
        vectors = embed_in_chunks(model, model, anchor_inputs, chunk_size=chunk_size, precision=precision)
        terms |= preservation_terms(anchors, vectors[0], vectors[1], group)
    loss = torch.stack([*terms.values()]).sum()
    # Each process has a part of the gradient, and DDP and FSDP2 average the parts; the factor makes that a sum.
    (group.world_size * loss).backward()  # type: ignore[no-untyped-call]
    all_reduce_replicated_grads(model, group)
    grad_norm = clip_grad_norm_(model, grad_clip_norm if grad_clip_norm > 0 else torch.inf, group)
    with torch.no_grad():
        # A few rows at a time: like the loss, without a B × B matrix in memory.
        best_B = torch.cat([(rows @ text_NE.T).argmax(dim=1) for rows in torch.split(image_BE, 256)])
        own_B = group.rank * len(best_B) + torch.arange(len(best_B), device=best_B.device)
        is_correct_B = best_B == own_B if label_N is None else label_N[best_B] == label_N[own_B]
        accuracy = group.all_reduce_sum(is_correct_B.float().mean()) / group.world_size
    # One transfer for all: each waits for the device.
    values = torch.stack([loss, grad_norm, logit_scale, accuracy, *terms.values()]).tolist()
    num_negatives = None if negatives is None else (len(negatives.text_ME), negatives.num_dropped)
    named_terms = dict(zip(terms, values[4:], strict=True))
    metrics = StepMetrics(values[0], values[1], values[2], values[3], named_terms, num_negatives)
    if not (math.isfinite(metrics.loss) and math.isfinite(metrics.grad_norm)):
        raise DivergenceError(
            f"training diverged: the loss is {metrics.loss}, the gradient norm {metrics.grad_norm}. The weights before "
            "this step are untouched; lower --lr, raise --optimizer.warmup-steps or use --precision fp32."
        )
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr * param_group.get("lr_scale", 1.0)
    optimizer.step()
    model.clamp_logit_scale()
    return metrics
