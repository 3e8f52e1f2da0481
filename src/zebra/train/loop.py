"""The training loop: batches in, one report per step out; everything else happens in the caller's `on_step`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from zebra.config.train import TrainConfig
from zebra.distributed import ALONE, World
from zebra.models import CLIP
from zebra.train.parallel import Towers
from zebra.train.schedule import learning_rate
from zebra.train.step import StepFigures, train_step
from zebra.values import Batch


@dataclass(frozen=True, slots=True)
class StepReport:
    """One finished step, as loggers, displays and checkpoints see it."""

    step: int
    """Steps taken so far, this one included."""
    steps: int
    """Length of the run."""
    samples: int
    """Pairs consumed so far."""
    lr: float
    figures: StepFigures
    seconds: float
    """Wall time of the step, waiting for data included."""
    data_wait_seconds: float
    """Share of it spent waiting for the batch."""
    batch: Batch
    """Of this process."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """How a batch becomes the tensors of the model."""

    pixels: Callable[[Tensor], Tensor]
    """uint8 [B, 3, H, W] → normalised float32."""
    tokens: Callable[[tuple[str, ...]], Tensor]
    """B captions → int64 ids [B, L]."""
    seen: Callable[[int], Tensor | None] = lambda _step: None
    """The step → the patches that are seen, int64 [B, K]; None: all."""


def train(
    model: CLIP,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    prepare: Prepare,
    config: TrainConfig,
    *,
    start: int,
    position: int,
    steps: int,
    on_step: Callable[[StepReport], bool],
    world: World = ALONE,
    towers: Towers | None = None,
) -> int:
    """Train from step `start` until `steps` steps are done or `on_step` returns False.

    Args:
        batches: The batch of every step from `start` on, or this process's share of it.
        position: Samples consumed before.
        on_step: Called after each step; returning False stops the run cleanly.
        world: The processes that train together.
        towers: What spreads the model over them (`parallel.spread`).

    Returns:
        The number of steps done.
    """
    device = model.logit_scale.device
    for step in range(start, steps):
        began = time.perf_counter()
        batch = next(batches)
        arrived = time.perf_counter()
        lr = learning_rate(step, peak=config.lr, warmup_steps=config.optimizer.warmup_steps, steps=steps)
        model.train()
        figures = train_step(
            model,
            optimizer,
            prepare.pixels(batch.images.to(device)),
            prepare.tokens(batch.captions),
            prepare.seen(step),
            lr=lr,
            clip_norm=config.optimizer.clip_norm,
            precision=config.precision,
            chunk_size=config.chunk_size,
            world=world,
            towers=towers,
        )
        report = StepReport(
            step=step + 1,
            steps=steps,
            samples=position + (step + 1 - start) * config.batch_size,
            lr=lr,
            figures=figures,
            seconds=time.perf_counter() - began,
            data_wait_seconds=arrived - began,
            batch=batch,
        )
        if not on_step(report):
            return step + 1
    return steps
