"""Training loop; everything besides the optimizer step happens in the callback."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zebra.config.train import TrainConfig
from zebra.data.rehearsal import join_rehearsal
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.models import CLIP
from zebra.train.hard_negatives import hard_negative_texts
from zebra.train.objective import NO_TARGETS, Targets
from zebra.train.parallel import ForwardFn
from zebra.train.preservation import SampleAnchors
from zebra.train.schedule import learning_rate
from zebra.train.step import StepMetrics, train_step
from zebra.values import Batch, PatchBatch


@dataclass(frozen=True, slots=True)
class StepReport:
    """Report of a finished step, for logs, displays and checkpoints."""

    step: int
    """Number of steps so far, this one included."""
    total_steps: int
    """Length of the run."""
    samples_seen: int
    """Number of pairs consumed so far, without those of rehearsal."""
    lr: float
    metrics: StepMetrics
    seconds: float
    """Wall time of the step, including the wait for data."""
    data_wait_seconds: float
    """Part of `seconds` spent waiting for the batch."""
    batch: Batch
    """Batch of this process."""

    @property
    def num_pairs(self) -> int:
        """Number of pairs of this process in the step, those of rehearsal included."""
        return len(self.batch.ids) + (len(self.batch.rehearsal.ids) if self.batch.rehearsal else 0)


@dataclass(frozen=True, slots=True)
class BatchPreprocessor:
    """Functions that turn a batch into the inputs of the model."""

    normalize: Callable[[Any], Tensor | PatchBatch]
    """Images of a batch, uint8 → normalized float32."""
    tokenize: Callable[[tuple[str, ...]], Tensor]
    """B captions → int64 ids [B, L]."""
    sample_patches: Callable[[int], Tensor | None] = lambda _step: None
    """Step → indices of the kept patches, int64 [B, K]; None keeps all patches."""
    look_up_targets: Callable[[Batch], Targets] = lambda _batch: NO_TARGETS
    """What the pairs of a batch are trained towards, besides matching their own texts."""
    sample_anchors: SampleAnchors = lambda _step: None
    """Step → generic images and texts whose vectors must stay near those of the initial model."""


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
        batches: One batch per step from `start_step` on; with several processes, the slice of this process.
        samples_seen: Number of samples consumed before.
        callback: Called after each step; False stops the run after it.
        group: Processes that train together.
        forward_fn: The model as `parallelize` returns it.

    Returns:
        The number of steps done.
    """
    device = model.logit_scale.device
    for step in range(start_step, total_steps):
        start_time = time.perf_counter()
        batch = next(batches)
        pairs = join_rehearsal(batch)
        data_time = time.perf_counter()
        lr = learning_rate(
            step,
            peak_lr=config.lr,
            warmup_steps=config.optimizer.warmup_steps,
            total_steps=total_steps,
            schedule=config.schedule,
        )
        model.train()
        metrics = train_step(
            model,
            optimizer,
            preprocessor.normalize(pairs.images.to(device)),
            preprocessor.tokenize((*pairs.captions, *hard_negative_texts(pairs))),
            preprocessor.sample_patches(step),
            targets=preprocessor.look_up_targets(pairs),
            anchors=preprocessor.sample_anchors(step),
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
            samples_seen=samples_seen + (step + 1 - start_step) * config.num_new,
            lr=lr,
            metrics=metrics,
            seconds=time.perf_counter() - start_time,
            data_wait_seconds=data_time - start_time,
            batch=batch,
        )
        if not callback(report):
            return step + 1
    return total_steps
