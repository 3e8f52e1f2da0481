"""One optimizer step: pixels and tokens in, updated weights and its figures out."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zebra.config.train import Precision
from zebra.distributed import ALONE, World
from zebra.errors import DivergedError
from zebra.losses import info_nce, sigmoid_loss
from zebra.models import CLIP
from zebra.train.grad_cache import embed
from zebra.train.parallel import Towers, average_loose, clip


@dataclass(frozen=True, slots=True)
class StepFigures:
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
    seen_BK: Tensor | None = None,
    *,
    lr: float,
    clip_norm: float,
    precision: Precision,
    chunk_size: int | None = None,
    world: World = ALONE,
    towers: Towers | None = None,
) -> StepFigures:
    """Take one step on a batch of matching pairs: InfoNCE, or for a model with a bias the sigmoid loss.

    Args:
        images_B3HW: Normalised pixels, float32.
        tokens_BL: Token ids, int64; row i belongs to image i.
        seen_BK: Patches of each image that its tower sees, int64; None: all.
        lr: Learning rate of this step.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
        precision: Arithmetic of the towers; the loss is always fp32.
        chunk_size: Most pairs that pass the towers at once, for batches that do not fit into memory; the step is the
            same one, up to a third slower. See `zebra.train.grad_cache` for batch norm. None takes the whole batch.
        world: The processes that take the step together, each with its share of the batch.
        towers: What spreads the model over them (`parallel.spread`).

    Returns:
        Figures of the whole batch, the same in all processes.

    Raises:
        DivergedError: The loss or the gradient is NaN or infinite; nothing was updated, in no process.
    """
    optimizer.zero_grad(set_to_none=True)
    towers = towers or model
    inputs = (images_B3HW, tokens_BL) if seen_BK is None else (images_B3HW, tokens_BL, seen_BK)
    image_BE, text_BE, logit_scale = embed(model, towers, inputs, chunk_size=chunk_size, precision=precision)
    text_NE = world.rows(text_BE)
    if model.logit_bias is None:
        loss = info_nce(image_BE, text_NE, logit_scale, world=world)
    else:
        loss = sigmoid_loss(image_BE, text_NE, logit_scale, model.logit_bias, world=world)
    (world.size * loss).backward()  # type: ignore[no-untyped-call]  # gradients, which are parts, are averaged
    average_loose(model, world)
    grad_norm = clip(model, clip_norm if clip_norm > 0 else torch.inf, world)
    with torch.no_grad():
        # A few rows at a time: like the loss, without B × B numbers in memory.
        best_B = torch.cat([(rows @ text_NE.T).argmax(dim=1) for rows in torch.split(image_BE, 256)])
        own_B = world.rank * len(best_B) + torch.arange(len(best_B), device=best_B.device)
        accuracy = world.sum((best_B == own_B).float().mean()) / world.size
    # Read at once: each reading waits for the device.
    figures = StepFigures(*torch.stack([loss, grad_norm, logit_scale, accuracy]).tolist())
    if not (math.isfinite(figures.loss) and math.isfinite(figures.grad_norm)):
        raise DivergedError(
            f"loss {figures.loss} and gradient norm {figures.grad_norm}: training diverged, the last weights are "
            "untouched; lower --lr, lengthen --optimizer.warmup-steps or use --precision fp32"
        )
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("share", 1.0)
    optimizer.step()
    model.clamp_temperature()
    return figures
