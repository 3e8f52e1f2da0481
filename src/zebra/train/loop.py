"""The training loop: batches in, one report per step out; everything else happens in the caller's `on_step`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from zebra.config.train import TrainConfig
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.models import CLIP
from zebra.train.parallel import ForwardFn
from zebra.train.schedule import learning_rate
from zebra.train.step import StepMetrics, train_step
from zebra.values import Batch


@dataclass(frozen=True, slots=True)
class StepReport:
    """One finished step, as loggers, displays and checkpoints see it."""

    step: int
    """Steps taken so far, this one included."""
    total_steps: int
    """Length of the run."""
    samples_seen: int
    """Pairs consumed so far."""
    lr: float
    metrics: StepMetrics
    seconds: float
    """Wall time of the step, waiting for data included."""
    data_wait_seconds: float
    """Share of it spent waiting for the batch."""
    batch: Batch
    """Of this process."""


@dataclass(frozen=True, slots=True)
class BatchPreprocessor:
    """How a batch becomes the tensors of the model."""

    normalize: Callable[[Tensor], Tensor]
    """uint8 [B, 3, H, W] → normalised float32."""
    tokenize: Callable[[tuple[str, ...]], Tensor]
    """B captions → int64 ids [B, L]."""
    sample_patches: Callable[[int], Tensor | None] = lambda _step: None
    """The step → the patches that are seen, int64 [B, K]; None: all."""


def train_loop(
    model: CLIP,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    preprocessor: BatchPreprocessor,
    config: TrainConfig,
    *,
    start_step: int,
    samples_seen: int,
    total_steps: int,
    callback: Callable[[StepReport], bool],
    group: ProcessGroup = SINGLE_PROCESS,
    forward_fn: ForwardFn | None = None,
) -> int:
    """Train from step `start_step` until `total_steps` steps are done or `callback` returns False.

    Args:
        batches: The batch of every step from `start_step` on, or this process's share of it.
        samples_seen: Samples consumed before.
        callback: Called after each step; returning False stops the run cleanly.
        group: The processes that train together.
        forward_fn: What spreads the model over them (`parallel.spread`).

    Returns:
        The number of steps done.
    """
    device = model.logit_scale.device
    for step in range(start_step, total_steps):
        began = time.perf_counter()
        batch = next(batches)
        arrived = time.perf_counter()
        lr = learning_rate(
            step, peak_lr=config.lr, warmup_steps=config.optimizer.warmup_steps, total_steps=total_steps
        )
        model.train()
        figures = train_step(
            model,
            optimizer,
            preprocessor.normalize(batch.images.to(device)),
            preprocessor.tokenize(batch.captions),
            preprocessor.sample_patches(step),
            lr=lr,
            grad_clip_norm=config.optimizer.grad_clip_norm,
            precision=config.precision,
            chunk_size=config.chunk_size,
            group=group,
            forward_fn=forward_fn,
        )
        report = StepReport(
            step=step + 1,
            total_steps=total_steps,
            samples_seen=samples_seen + (step + 1 - start_step) * config.batch_size,
            lr=lr,
            metrics=figures,
            seconds=time.perf_counter() - began,
            data_wait_seconds=arrived - began,
            batch=batch,
        )
        if not callback(report):
            return step + 1
    return total_steps
