"""What happens after each step of a run: counting, agreeing, checks, journal, checkpoints."""

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import fmean

import torch

from zebra.config.train import TrainConfig
from zebra.evaluators.validation import Judge
from zebra.train.checkpoint_writer import CheckpointWriter
from zebra.train.loop import StepReport
from zebra.train.metrics_logger import Journal
from zebra.train.state import Session
from zebra.train.stop import StopRequest
from zebra.train.watchdog import RollCall

Watch = Callable[[StepReport, Mapping[str, float]], None]


class Follower:
    """What happens after each step: counting, checks, journal, checkpoints."""

    def __init__(
        self,
        session: Session,
        config: TrainConfig,
        journal: Journal | None,
        checks: list[Judge],
        writer: CheckpointWriter,
        stop: StopRequest,
        watch: Watch,
        roll: RollCall,
    ) -> None:
        self.session = session
        self.config = config
        self.journal = journal
        self.checks = checks
        self.writer = writer
        self.stop = stop
        self.watch = watch
        self.roll = roll
        self.stopped = False
        """Whether somebody asked any process of the run to stop."""
        self._saved_at = time.monotonic()

    def __call__(self, report: StepReport) -> bool:
        """Take in one step; return whether to go on."""
        self.roll.note(f"step {report.step}")
        self.writer.check()
        is_late, report = self._agree(report)
        self.session.advance(report)
        spike = self.session.spikes.add(report.figures.loss)
        if spike:
            warnings.warn(
                f"the loss shot up before step {report.step} and stays up; a smaller --lr or --optimizer.beta2 "
                "prevents the next time",
                stacklevel=1,
            )
        last = report.step == report.steps
        due = report.step % self.config.check_every == 0 or last
        results = self._check() if due else {}
        if self.journal:
            self.journal.add(report, results, spike=spike)
        self.watch(report, results)
        score = fmean(results.values()) if results else None
        is_due = is_late or report.step % self.config.checkpoint_every == 0
        if self._is_best(score) or is_due or self.stopped or last:
            if self.journal:
                self.journal.flush()
            self.writer.save(self.session.snapshot(score))
            self._saved_at = time.monotonic()
        return not (self.stopped or self._is_stale())

    def _agree(self, report: StepReport) -> tuple[bool, StepReport]:
        """Settle with the other processes whether to stop and whether to save; add their skips to the report."""
        world = self.session.world
        is_late = time.monotonic() - self._saved_at >= 60 * self.config.checkpoint_minutes
        told = [self.stop.requested, is_late and world.leads, bool(report.batch.skips)]
        self.stopped, is_late, has_skips = map(
            bool, world.max(torch.tensor(told, dtype=torch.int32)).tolist()
        )
        if has_skips and world.size > 1:
            skips = tuple(skip for some in world.objects(report.batch.skips) for skip in some)
            report = replace(report, batch=replace(report.batch, skips=skips))
        return is_late, report

    def was_stopped(self) -> bool:
        """Ask all processes whether somebody wants the run to stop; all must ask."""
        told = torch.tensor(self.stopped or self.stop.requested, dtype=torch.int32)
        self.stopped = bool(self.session.world.max(told))
        return self.stopped

    def _is_stale(self) -> bool:
        patience = self.config.finetune.patience if self.config.finetune else math.inf
        return self.session.stale >= patience

    def _check(self) -> dict[str, float]:
        with self.session.averaged() as bundle:
            results = {}
            for check in self.checks:
                self.roll.note(f"the check on {check.name}")
                results[check.name] = check(bundle)
        # What decides must be the same everywhere; processors may differ in the last bits.
        return self.session.world.objects(results)[0]

    def _is_best(self, score: float | None) -> bool:
        if score is None:
            return False
        if self.session.best is not None and score <= self.session.best:
            self.session.stale += 1
            return False
        self.session.best, self.session.stale = score, 0
        return True
