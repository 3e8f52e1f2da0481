"""One optimizer step: pixels and tokens in, updated weights and its figures out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zebra.config.train import Precision
from zebra.errors import DivergedError
from zebra.losses import info_nce, sigmoid_loss
from zebra.models import CLIP
from zebra.train.caching import embed


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
    *,
    lr: float,
    clip_norm: float,
    precision: Precision,
    chunk_size: int | None = None,
) -> StepFigures:
    """Take one step on a batch of matching pairs: InfoNCE, or for a model with a bias the sigmoid loss.

    Args:
        images_B3HW: Normalised pixels, float32.
        tokens_BL: Token ids, int64; row i belongs to image i.
        lr: Learning rate of this step.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
        precision: Arithmetic of the towers; the loss is always fp32.
        chunk_size: Most pairs that pass the towers at once, for batches that do not fit into memory; the step is the
            same one, up to a third slower. See `zebra.train.caching` for batch norm. None takes the whole batch.

    Raises:
        DivergedError: The loss or the gradient is NaN or infinite; nothing was updated.
    """
    optimizer.zero_grad(set_to_none=True)
    image_BE, text_BE, logit_scale = embed(
        model, images_B3HW, tokens_BL, chunk_size=chunk_size, precision=precision
    )
    if model.logit_bias is None:
        loss = info_nce(image_BE, text_BE, logit_scale)
    else:
        loss = sigmoid_loss(image_BE, text_BE, logit_scale, model.logit_bias)
    loss.backward()  # type: ignore[no-untyped-call]
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm if clip_norm > 0 else torch.inf)
    if not (torch.isfinite(loss) and torch.isfinite(grad_norm)):
        raise DivergedError(
            f"loss {loss.item()} and gradient norm {grad_norm.item()}: training diverged, the last weights are "
            "untouched; lower --lr, lengthen --optimizer.warmup-steps or use --precision fp32"
        )
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("share", 1.0)
    optimizer.step()
    model.clamp_temperature()
    with torch.no_grad():
        # A few rows at a time: like the loss, without B × B numbers in memory.
        best_B = torch.cat([(rows @ text_BE.T).argmax(dim=1) for rows in torch.split(image_BE, 256)])
        accuracy = (best_B == torch.arange(len(best_B), device=best_B.device)).float().mean()
    return StepFigures(
        loss=loss.item(),
        grad_norm=grad_norm.item(),
        logit_scale=logit_scale.item(),
        batch_accuracy=accuracy.item(),
    )
