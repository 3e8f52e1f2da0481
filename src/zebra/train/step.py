"""One optimizer step: pixels and tokens in, updated weights and its figures out."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zebra.config.train import TrainPrecision
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import DivergenceError
from zebra.losses import info_nce, sigmoid_loss
from zebra.models import CLIP
from zebra.train.grad_cache import embed_in_chunks
from zebra.train.parallel import ForwardFn, all_reduce_replicated_grads, clip_grad_norm_


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one step measured, before its update."""

    loss: float
    grad_norm: float
    """Of the whole gradient, before clipping."""
    logit_scale: float
    """The multiplier of similarities."""
    batch_accuracy: float
    """Share of the batch's images whose own text scores highest among B."""


def train_step(
    model: CLIP,
    optimizer: torch.optim.Optimizer,
    images_B3HW: Tensor,
    tokens_BL: Tensor,
    ids_keep_BK: Tensor | None = None,
    *,
    lr: float,
    grad_clip_norm: float,
    precision: TrainPrecision,
    chunk_size: int | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
    forward_fn: ForwardFn | None = None,
) -> StepMetrics:
    """Take one step on a batch of matching pairs: InfoNCE, or for a model with a bias the sigmoid loss.

    Args:
        images_B3HW: Normalised pixels, float32.
        tokens_BL: Token ids, int64; row i belongs to image i.
        ids_keep_BK: Patches of each image that its tower sees, int64; None: all.
        lr: Learning rate of this step.
        grad_clip_norm: Largest norm of the gradient; 0 leaves it alone.
        precision: Arithmetic of the towers; the loss is always fp32.
        chunk_size: Most pairs that pass the towers at once, for batches that do not fit into memory; the step is the
            same one, up to a third slower. See `zebra.train.grad_cache` for batch norm. None takes the whole batch.
        group: The processes that take the step together, each with its share of the batch.
        forward_fn: What spreads the model over them (`parallel.spread`).

    Returns:
        Figures of the whole batch, the same in all processes.

    Raises:
        DivergedError: The loss or the gradient is NaN or infinite; nothing was updated, in no process.
    """
    optimizer.zero_grad(set_to_none=True)
    forward_fn = forward_fn or model
    inputs = (images_B3HW, tokens_BL) if ids_keep_BK is None else (images_B3HW, tokens_BL, ids_keep_BK)
    image_BE, text_BE, logit_scale = embed_in_chunks(
        model, forward_fn, inputs, chunk_size=chunk_size, precision=precision
    )
    text_NE = group.all_gather(text_BE)
    if model.logit_bias is None:
        loss = info_nce(image_BE, text_NE, logit_scale, group=group)
    else:
        loss = sigmoid_loss(image_BE, text_NE, logit_scale, model.logit_bias, group=group)
    (group.world_size * loss).backward()  # type: ignore[no-untyped-call]  # gradients, which are parts, are averaged
    all_reduce_replicated_grads(model, group)
    grad_norm = clip_grad_norm_(model, grad_clip_norm if grad_clip_norm > 0 else torch.inf, group)
    with torch.no_grad():
        # A few rows at a time: like the loss, without B × B numbers in memory.
        best_B = torch.cat([(rows @ text_NE.T).argmax(dim=1) for rows in torch.split(image_BE, 256)])
        own_B = group.rank * len(best_B) + torch.arange(len(best_B), device=best_B.device)
        accuracy = group.all_reduce_sum((best_B == own_B).float().mean()) / group.world_size
    # Read at once: each reading waits for the device.
    figures = StepMetrics(*torch.stack([loss, grad_norm, logit_scale, accuracy]).tolist())
    if not (math.isfinite(figures.loss) and math.isfinite(figures.grad_norm)):
        raise DivergenceError(
            f"loss {figures.loss} and gradient norm {figures.grad_norm}: training diverged, the last weights are "
            "untouched; lower --lr, lengthen --optimizer.warmup-steps or use --precision fp32"
        )
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr * param_group.get("share", 1.0)
    optimizer.step()
    model.clamp_logit_scale()
    return figures
