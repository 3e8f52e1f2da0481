"""Train state: model, optimizer, EMA, counters and RNG; snapshot and restore."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zebra.data.sample_counter import SampleCounter
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import WeightsError
from zebra.pretrained.bundle import Bundle
from zebra.text.tokenizers import Tokenizer
from zebra.train.ema import ModelEMA
from zebra.train.loop import StepReport
from zebra.train.loss_spikes import SpikeDetector
from zebra.train.parallel import ForwardFn, unshard_model
from zebra.train.run_spec import RunSpec, is_last_step, require_resumable
from zebra.train.snapshot import (
    TensorGroups,
    TrainSnapshot,
    get_rng_state,
    optimizer_tensors,
    restore_tensors,
    set_rng_state,
)


class CountingTokenizer:
    """Tokenizes captions and counts those that are truncated."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.num_truncated = 0

    def __call__(self, captions: tuple[str, ...]) -> Tensor:
        """Return int64 ids [B, L], truncated to the context length: the start of a long caption is still useful."""
        encoded = self.tokenizer.encode(captions, truncate=True)
        self.num_truncated += encoded.num_truncated
        return torch.from_numpy(encoded.ids)


@dataclass(slots=True)
class TrainState:
    """Everything that a checkpoint holds, and what is needed to continue from it."""

    bundle: Bundle
    optimizer: torch.optim.Optimizer
    ema: ModelEMA | None
    """Averaged weights; None without EMA."""
    sample_counter: SampleCounter
    tokenizer: CountingTokenizer
    run_spec: RunSpec
    """What determines the numbers of this run."""
    spike_detector: SpikeDetector = field(default_factory=SpikeDetector)
    step: int = 0
    """Number of steps done."""
    samples_seen: int = 0
    """Number of samples consumed; it alone determines the next sample."""
    rehearsal_counter: SampleCounter | None = None
    """Counts of the earlier data; None without rehearsal."""
    rehearsal_seen: int = 0
    """Number of samples of the earlier data consumed."""
    best_score: float | None = None
    """Highest mean validation score so far."""
    evals_since_best: int = 0
    """Number of evaluations since `best_score`."""
    accepted_changes: list[str] = field(default_factory=list)
    """Differences from the run of the checkpoint that the user accepted."""
    group: ProcessGroup = SINGLE_PROCESS
    """Processes of the run."""
    forward_fn: ForwardFn | None = None
    """The function to call in training in place of the model."""

    @property
    def num_truncated_captions(self) -> int:
        """Number of truncated captions in all processes; all must call it."""
        return int(self.group.all_reduce_sum(torch.tensor(self.tokenizer.num_truncated)))

    def record_step(self, report: StepReport) -> None:
        """Update counters and EMA after a step."""
        self.sample_counter.add(self.samples_seen, report.batch, self.group.world_size)
        if self.rehearsal_counter and report.batch.rehearsal:
            self.rehearsal_counter.add(self.rehearsal_seen, report.batch.rehearsal, self.group.world_size)
            self.rehearsal_seen += self.group.world_size * len(report.batch.rehearsal.ids)
        if self.ema is not None:
            self.ema.update()
        self.step, self.samples_seen = report.step, report.samples_seen

    @contextmanager
    def eval_bundle(self) -> Iterator[Bundle]:
        """Yield the model for evaluation: unsharded, and with the averaged weights if there are any."""
        with self.ema.average_parameters() if self.ema else nullcontext():
            model = unshard_model(self.bundle.model)
            if model is self.bundle.model:
                yield self.bundle
            else:
                yield Bundle(model, self.bundle.tokenizer, self.bundle.preprocess, templates=self.bundle.templates)

    def snapshot(self, score: float | None = None) -> TrainSnapshot:
        """Return the state with the live tensors, which training will change (see `snapshot.copy_to_cpu`).

        All processes must call it; the results are equal except for the shards of their tensors.

        Args:
            score: Mean validation score at this step.
        """
        rng_tensors, rng_state = get_rng_state()
        state = {
            "run_spec": self.run_spec,
            "samples_seen": self.samples_seen,
            "sample_counter": self.sample_counter.state_dict(),
            "truncated_captions": self.num_truncated_captions,
            "spike_detector": self.spike_detector.state_dict(),
            "ema_updates": self.ema.num_updates if self.ema else 0,
            "best_score": self.best_score,
            "evals_since_best": self.evals_since_best,
            "rng_state": rng_state,
            "rehearsal_seen": self.rehearsal_seen,
            "rehearsal_counter": self.rehearsal_counter.state_dict() if self.rehearsal_counter else None,
        }
        return TrainSnapshot(self.step, {**self._tensors(), "rng": rng_tensors}, state, score)

    def restore(self, snapshot: TrainSnapshot, checkpoint_name: str, *, accept_changes: bool) -> None:
        """Restore a snapshot.

        Args:
            checkpoint_name: Name of the snapshot's checkpoint in error messages.
            accept_changes: Resume although settings, data, tokenizer or versions have changed.

        Raises:
            ConfigError: They have changed, not only by an extension of a finished run, and `accept_changes` is False.
            WeightsError: A part is missing, unexpected, or of another shape.
        """
        state = dict(snapshot.state)
        expected = self.snapshot().state.keys()
        if state.keys() != expected:
            raise WeightsError(
                f"{checkpoint_name} holds the state of {', '.join(sorted(state))}, but this run needs "
                f"{', '.join(sorted(expected))}. Resume with the version of zebra that wrote it."
            )
        num_samples = self.sample_counter.num_samples
        self.accepted_changes = require_resumable(
            state["run_spec"],
            self.run_spec,
            checkpoint_name,
            accept_changes=accept_changes,
            is_last=is_last_step(state["run_spec"], snapshot.step, state["samples_seen"], num_samples),
        )
        tensors = dict(snapshot.tensors)
        rng_tensors = tensors.pop("rng", {})
        restore_tensors(self._tensors(), tensors, checkpoint_name)
        set_rng_state(rng_tensors, state["rng_state"], checkpoint_name)
        self.step, self.samples_seen, self.best_score = (snapshot.step, state["samples_seen"], state["best_score"])
        self.evals_since_best = state["evals_since_best"]
        self.sample_counter.load_state_dict(state["sample_counter"])
        self.tokenizer.num_truncated = state["truncated_captions"] if self.group.is_main_process else 0
        self.spike_detector.load_state_dict(state["spike_detector"])
        if self.rehearsal_counter and state["rehearsal_counter"]:  # None: rehearsal is an accepted change
            self.rehearsal_seen = state["rehearsal_seen"]
            self.rehearsal_counter.load_state_dict(state["rehearsal_counter"])
        if self.ema is not None:
            self.ema.num_updates = state["ema_updates"]

    def load_weights(self, tensors: TensorGroups, checkpoint_name: str) -> None:
        """Load the weights, with EMA also the averaged ones, and nothing else."""
        live = self.weights()
        restore_tensors(live, {part: tensors[part] for part in live}, checkpoint_name)

    def weights(self) -> TensorGroups:
        """Return the live weights, with EMA also the averaged ones."""
        return {part: named for part, named in self._tensors().items() if part in ("model", "ema")}

    def _tensors(self) -> TensorGroups:
        parts = {
            "model": self.bundle.model.state_dict(),
            "optimizer": optimizer_tensors(self.bundle.model, self.optimizer),
        }
        return parts | ({"ema": self.ema.weights} if self.ema else {})
