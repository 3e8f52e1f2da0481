"""A run while it lives: what learns, what is counted and where it stands; all of it into a snapshot, and back."""

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
from zebra.train.parallel import unshard_model
from zebra.train.run_spec import RunSpec, require_resumable
from zebra.train.snapshot import (
    TensorGroups,
    TrainSnapshot,
    get_rng_state,
    optimizer_tensors,
    restore_tensors,
    set_rng_state,
)


class CountingTokenizer:
    """Turns captions into ids and counts those that were cut."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.num_truncated = 0

    def __call__(self, captions: tuple[str, ...]) -> Tensor:
        """Return int64 ids [B, L], cut to the context length: a long caption still teaches by its beginning."""
        encoded = self.tokenizer.encode(captions, truncate=True)
        self.num_truncated += encoded.num_truncated
        return torch.from_numpy(encoded.ids)


@dataclass(slots=True)
class TrainState:
    """Everything that a checkpoint holds."""

    bundle: Bundle
    optimizer: torch.optim.AdamW
    ema: ModelEMA | None
    """The averaged weights; None trains without."""
    sample_counter: SampleCounter
    tokenizer: CountingTokenizer
    run_spec: RunSpec
    """What the numbers of this run depend on."""
    spike_detector: SpikeDetector = field(default_factory=SpikeDetector)
    step: int = 0
    """Steps done."""
    samples_seen: int = 0
    """Samples consumed; the only thing that decides which comes next."""
    best_score: float | None = None
    """The highest mean of the checks so far."""
    evals_since_best: int = 0
    """Checks since then."""

    accepted_changes: list[str] = field(default_factory=list)
    """What differs from the run this one goes on from, with its owner's consent."""
    group: ProcessGroup = SINGLE_PROCESS
    """The processes of the run."""

    @property
    def num_truncated_captions(self) -> int:
        """How many captions all processes have cut; all must ask."""
        return int(self.group.all_reduce_sum(torch.tensor(self.tokenizer.num_truncated)))

    def record_step(self, report: StepReport) -> None:
        """Take in a step that has just been done."""
        self.sample_counter.add(self.samples_seen, report.batch, self.group.world_size)
        if self.ema is not None:
            self.ema.update()
        self.step, self.samples_seen = report.step, report.samples_seen

    @contextmanager
    def eval_bundle(self) -> Iterator[Bundle]:
        """Lend the model as it is to be used: whole, and with its averaged weights if they are kept."""
        with self.ema.average_parameters() if self.ema else nullcontext():
            model = unshard_model(self.bundle.model)
            if model is self.bundle.model:
                yield self.bundle
            else:
                yield Bundle(model, self.bundle.tokenizer, self.bundle.preprocess)

    def snapshot(self, score: float | None = None) -> TrainSnapshot:
        """Return all of it, the tensors still being those that training goes on to change (see `snapshot.take`).

        All processes must ask, and get the same but for the shares of their tensors.

        Args:
            score: Of the checks at this step.
        """
        generators, plain_generators = get_rng_state()
        state = {
            "identity": self.run_spec,
            "position": self.samples_seen,
            "ledger": self.sample_counter.state_dict(),
            "truncated_captions": self.num_truncated_captions,
            "spikes": self.spike_detector.state_dict(),
            "average_updates": self.ema.num_updates if self.ema else 0,
            "best": self.best_score,
            "stale": self.evals_since_best,
            "generators": plain_generators,
        }
        return TrainSnapshot(self.step, {**self._tensors(), "rng": generators}, state, score)

    def restore(self, snapshot: TrainSnapshot, checkpoint_name: str, *, accept_changes: bool) -> None:
        """Go on from a snapshot.

        Args:
            checkpoint_name: The checkpoint it was read from, for messages.
            accept_changes: Go on although settings, data, words or versions are not what they were.

        Raises:
            ConfigError: They are not, and nobody accepted it.
            WeightsError: Something is missing, left over, or of another shape.
        """
        state = dict(snapshot.state)
        wanted = self.snapshot().state.keys()
        if state.keys() != wanted:
            raise WeightsError(
                f"{checkpoint_name} holds the state of {', '.join(sorted(state))}, but this run needs that of "
                f"{', '.join(sorted(wanted))}; go on with the version of zebra that wrote it"
            )
        self.accepted_changes = require_resumable(
            state["identity"], self.run_spec, checkpoint_name, accept_changes=accept_changes
        )
        tensors = dict(snapshot.tensors)
        generators = tensors.pop("rng", {})
        restore_tensors(self._tensors(), tensors, checkpoint_name)
        set_rng_state(generators, state["generators"], checkpoint_name)
        self.step, self.samples_seen, self.best_score = snapshot.step, state["position"], state["best"]
        self.evals_since_best = state["stale"]
        self.sample_counter.load_state_dict(state["ledger"])
        self.tokenizer.num_truncated = state["truncated_captions"] if self.group.is_main_process else 0
        self.spike_detector.load_state_dict(state["spikes"])
        if self.ema is not None:
            self.ema.num_updates = state["average_updates"]

    def load_weights(self, tensors: TensorGroups, checkpoint_name: str) -> None:
        """Take weights, averaged ones if they are kept, and nothing else."""
        mine = {part: named for part, named in self._tensors().items() if part in ("model", "ema")}
        restore_tensors(mine, {part: tensors[part] for part in mine}, checkpoint_name)

    def _tensors(self) -> TensorGroups:
        parts = {
            "model": self.bundle.model.state_dict(),
            "optimizer": optimizer_tensors(self.bundle.model, self.optimizer),
        }
        return parts | ({"ema": self.ema.weights} if self.ema else {})
