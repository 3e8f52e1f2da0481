"""Training hooks: validation, logging, checkpoints and early stopping."""

import math
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain

import torch

from zebra.config.train import TrainConfig
from zebra.evaluators.validation import Validator, selection_score
from zebra.train.checkpoint_writer import CheckpointWriter
from zebra.train.loop import StepReport
from zebra.train.metrics_logger import MetricsLogger
from zebra.train.state import TrainState
from zebra.train.watchdog import RankWatchdog

Callback = Callable[[StepReport, Mapping[str, float]], None]
"""Called after each step with its report and the validation scores of that step (name → score)."""


class TrainingHooks:
    """Callback of the training loop: updates the state, validates, logs and saves checkpoints."""

    def __init__(
        self,
        state: TrainState,
        config: TrainConfig,
        logger: MetricsLogger | None,
        validators: list[Validator],
        writer: CheckpointWriter,
        stop_request: threading.Event,
        callback: Callback,
        watchdog: RankWatchdog,
        pause_at: int | None = None,
    ) -> None:
        self.state = state
        self.config = config
        self.logger = logger
        self.validators = validators
        self.writer = writer
        self.stop_request = stop_request
        self.callback = callback
        self.watchdog = watchdog
        self.pause_at = pause_at
        """Step after which the run stops as if interrupted; None to go on until its end."""
        self.interrupted = False
        """Whether a stop was requested in any process."""
        self._last_save_time = time.monotonic()

    def __call__(self, report: StepReport) -> bool:
        """Process one step; return whether training should continue."""
        self.watchdog.heartbeat(f"step {report.step}")
        self.writer.raise_if_failed()
        is_late, report = self._synchronize(report)
        self.state.record_step(report)
        is_spike = self.state.spike_detector.update(report.metrics.loss)
        if is_spike:
            warnings.warn(
                f"loss spike: the loss jumped shortly before step {report.step} and stays high. Lower --lr or "
                "--optimizer.beta2 in the next run.",
                stacklevel=1,
            )
        is_last = report.step == report.total_steps
        should_evaluate = report.step % self.config.eval_every == 0 or is_last
        validations = self._validate() if should_evaluate else []
        scores = {name: score for named in validations for name, score in named.items()}
        if self.logger:
            self.logger.log_step(report, scores, is_spike=is_spike)
        self.callback(report, scores)
        mean_score = selection_score(validations)
        should_save = is_late or report.step % self.config.checkpoint_every == 0
        if self._update_best(mean_score) or should_save or self.interrupted or is_last:
            if self.logger:
                self.logger.flush()
            self.writer.save(self.state.snapshot(mean_score))
            self._last_save_time = time.monotonic()
        return not (self.interrupted or self._should_stop_early())

    def _synchronize(self, report: StepReport) -> tuple[bool, StepReport]:
        """Agree with the other processes on stopping and saving; merge the skipped samples of all into the report."""
        group = self.state.group
        is_late = time.monotonic() - self._last_save_time >= 60 * self.config.checkpoint_minutes
        is_stop = self.stop_request.is_set() or report.step == self.pause_at
        skips, earlier = report.batch.skips, report.batch.rehearsal
        earlier_skips = earlier.skips if earlier else ()
        flags = [is_stop, is_late and group.is_main_process, bool(skips or earlier_skips)]
        self.interrupted, is_late, has_skips = map(
            bool, group.all_reduce_max(torch.tensor(flags, dtype=torch.int32)).tolist()
        )
        if has_skips and group.world_size > 1:
            parts = group.all_gather_object((skips, earlier_skips))
            skips, earlier_skips = (tuple(chain.from_iterable(each)) for each in zip(*parts, strict=True))
            earlier = replace(earlier, skips=earlier_skips) if earlier else None
            report = replace(report, batch=replace(report.batch, skips=skips, rehearsal=earlier))
        return is_late, report

    def poll_interrupted(self) -> bool:
        """Return whether a stop was requested in any process; all processes must call it."""
        flag = torch.tensor(self.interrupted or self.stop_request.is_set(), dtype=torch.int32)
        self.interrupted = bool(self.state.group.all_reduce_max(flag))
        return self.interrupted

    def _should_stop_early(self) -> bool:
        patience = self.config.finetune.patience if self.config.finetune else math.inf
        return self.state.evals_since_best >= patience

    def _validate(self) -> list[Mapping[str, float]]:
        with self.state.eval_bundle() as bundle:
            validations = []
            for validator in self.validators:
                self.watchdog.heartbeat(f"the evaluation on {validator.name}")
                validations.append(validator(bundle))
        # All processes must decide on equal numbers; their processors may differ in the last bits.
        return self.state.group.all_gather_object(validations)[0]

    def _update_best(self, score: float | None) -> bool:
        if score is None:
            return False
        if self.state.best_score is not None and score <= self.state.best_score:
            self.state.evals_since_best += 1
            return False
        self.state.best_score, self.state.evals_since_best = score, 0
        return True
