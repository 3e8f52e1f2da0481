"""What happens after each step of a run: counting, agreeing, checks, journal, checkpoints."""

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import fmean

import torch

from zebra.config.train import TrainConfig
from zebra.evaluators.validation import Validator
from zebra.train.checkpoint_writer import CheckpointWriter
from zebra.train.loop import StepReport
from zebra.train.metrics_logger import MetricsLogger
from zebra.train.state import TrainState
from zebra.train.stop import StopRequest
from zebra.train.watchdog import RankWatchdog

Callback = Callable[[StepReport, Mapping[str, float]], None]


class TrainingHooks:
    """What happens after each step: counting, checks, journal, checkpoints."""

    def __init__(
        self,
        state: TrainState,
        config: TrainConfig,
        logger: MetricsLogger | None,
        validators: list[Validator],
        writer: CheckpointWriter,
        stop_request: StopRequest,
        callback: Callback,
        watchdog: RankWatchdog,
    ) -> None:
        self.state = state
        self.config = config
        self.logger = logger
        self.validators = validators
        self.writer = writer
        self.stop_request = stop_request
        self.callback = callback
        self.watchdog = watchdog
        self.interrupted = False
        """Whether somebody asked any process of the run to stop."""
        self._last_save_time = time.monotonic()

    def __call__(self, report: StepReport) -> bool:
        """Take in one step; return whether to go on."""
        self.watchdog.heartbeat(f"step {report.step}")
        self.writer.raise_if_failed()
        is_late, report = self._synchronize(report)
        self.state.record_step(report)
        spike = self.state.spike_detector.update(report.metrics.loss)
        if spike:
            warnings.warn(
                f"the loss shot up before step {report.step} and stays up; a smaller --lr or --optimizer.beta2 "
                "prevents the next time",
                stacklevel=1,
            )
        last = report.step == report.total_steps
        due = report.step % self.config.eval_every == 0 or last
        results = self._evaluate() if due else {}
        if self.logger:
            self.logger.log_step(report, results, is_spike=spike)
        self.callback(report, results)
        score = fmean(results.values()) if results else None
        is_due = is_late or report.step % self.config.checkpoint_every == 0
        if self._update_best(score) or is_due or self.interrupted or last:
            if self.logger:
                self.logger.flush()
            self.writer.save(self.state.snapshot(score))
            self._last_save_time = time.monotonic()
        return not (self.interrupted or self._should_stop_early())

    def _synchronize(self, report: StepReport) -> tuple[bool, StepReport]:
        """Settle with the other processes whether to stop and whether to save; add their skips to the report."""
        world = self.state.group
        is_late = time.monotonic() - self._last_save_time >= 60 * self.config.checkpoint_minutes
        told = [self.stop_request.is_requested, is_late and world.is_main_process, bool(report.batch.skips)]
        self.interrupted, is_late, has_skips = map(
            bool, world.all_reduce_max(torch.tensor(told, dtype=torch.int32)).tolist()
        )
        if has_skips and world.world_size > 1:
            skips = tuple(skip for some in world.all_gather_object(report.batch.skips) for skip in some)
            report = replace(report, batch=replace(report.batch, skips=skips))
        return is_late, report

    def poll_interrupted(self) -> bool:
        """Ask all processes whether somebody wants the run to stop; all must ask."""
        told = torch.tensor(self.interrupted or self.stop_request.is_requested, dtype=torch.int32)
        self.interrupted = bool(self.state.group.all_reduce_max(told))
        return self.interrupted

    def _should_stop_early(self) -> bool:
        patience = self.config.finetune.patience if self.config.finetune else math.inf
        return self.state.evals_since_best >= patience

    def _evaluate(self) -> dict[str, float]:
        with self.state.eval_bundle() as bundle:
            results = {}
            for check in self.validators:
                self.watchdog.heartbeat(f"the check on {check.name}")
                results[check.name] = check(bundle)
        # What decides must be the same everywhere; processors may differ in the last bits.
        return self.state.group.all_gather_object(results)[0]

    def _update_best(self, score: float | None) -> bool:
        if score is None:
            return False
        if self.state.best_score is not None and score <= self.state.best_score:
            self.state.evals_since_best += 1
            return False
        self.state.best_score, self.state.evals_since_best = score, 0
        return True
