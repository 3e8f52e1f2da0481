"""A run while it lives: what learns, what is counted and where it stands; all of it into a snapshot, and back."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zebra.data.sample_counter import Ledger
from zebra.distributed import ALONE, World
from zebra.errors import WeightsError
from zebra.pretrained.bundle import Bundle
from zebra.text.tokenizers import Words
from zebra.train.ema import WeightAverage
from zebra.train.loop import StepReport
from zebra.train.loss_spikes import SpikeDetector
from zebra.train.parallel import whole_copy
from zebra.train.run_spec import Identity, require_same
from zebra.train.snapshot import Parts, Snapshot, moments, restore, rng_state, set_rng_state


class TokenCounter:
    """Turns captions into ids and counts those that were cut."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.truncated = 0

    def __call__(self, captions: tuple[str, ...]) -> Tensor:
        """Return int64 ids [B, L], cut to the context length: a long caption still teaches by its beginning."""
        encoded = self.words.encode(captions, truncate=True)
        self.truncated += encoded.truncated
        return torch.from_numpy(encoded.ids)


@dataclass(slots=True)
class Session:
    """Everything that a checkpoint holds."""

    bundle: Bundle
    optimizer: torch.optim.AdamW
    average: WeightAverage | None
    """The averaged weights; None trains without."""
    ledger: Ledger
    tokens: TokenCounter
    identity: Identity
    """What the numbers of this run depend on."""
    spikes: SpikeDetector = field(default_factory=SpikeDetector)
    step: int = 0
    """Steps done."""
    position: int = 0
    """Samples consumed; the only thing that decides which comes next."""
    best: float | None = None
    """The highest mean of the checks so far."""
    stale: int = 0
    """Checks since then."""

    accepted: list[str] = field(default_factory=list)
    """What differs from the run this one goes on from, with its owner's consent."""
    world: World = ALONE
    """The processes of the run."""

    @property
    def truncated_captions(self) -> int:
        """How many captions all processes have cut; all must ask."""
        return int(self.world.sum(torch.tensor(self.tokens.truncated)))

    def advance(self, report: StepReport) -> None:
        """Take in a step that has just been done."""
        self.ledger.add(self.position, report.batch, self.world.size)
        if self.average is not None:
            self.average.update()
        self.step, self.position = report.step, report.samples

    @contextmanager
    def averaged(self) -> Iterator[Bundle]:
        """Lend the model as it is to be used: whole, and with its averaged weights if they are kept."""
        with self.average.in_place() if self.average else nullcontext():
            model = whole_copy(self.bundle.model)
            if model is self.bundle.model:
                yield self.bundle
            else:
                yield Bundle(model, self.bundle.tokenizer, self.bundle.preprocess)

    def snapshot(self, score: float | None = None) -> Snapshot:
        """Return all of it, the tensors still being those that training goes on to change (see `snapshot.take`).

        All processes must ask, and get the same but for the shares of their tensors.

        Args:
            score: Of the checks at this step.
        """
        generators, plain_generators = rng_state()
        state = {
            "identity": self.identity,
            "position": self.position,
            "ledger": self.ledger.state(),
            "truncated_captions": self.truncated_captions,
            "spikes": self.spikes.state(),
            "average_updates": self.average.updates if self.average else 0,
            "best": self.best,
            "stale": self.stale,
            "generators": plain_generators,
        }
        return Snapshot(self.step, {**self._tensors(), "rng": generators}, state, score)

    def restore(self, saved: Snapshot, where: str, *, accept_changes: bool) -> None:
        """Go on from a snapshot.

        Args:
            where: The checkpoint it was read from, for messages.
            accept_changes: Go on although settings, data, words or versions are not what they were.

        Raises:
            ConfigError: They are not, and nobody accepted it.
            WeightsError: Something is missing, left over, or of another shape.
        """
        state = dict(saved.state)
        wanted = self.snapshot().state.keys()
        if state.keys() != wanted:
            raise WeightsError(
                f"{where} holds the state of {', '.join(sorted(state))}, but this run needs that of "
                f"{', '.join(sorted(wanted))}; go on with the version of zebra that wrote it"
            )
        self.accepted = require_same(state["identity"], self.identity, where, accept=accept_changes)
        tensors = dict(saved.tensors)
        generators = tensors.pop("rng", {})
        restore(self._tensors(), tensors, where)
        set_rng_state(generators, state["generators"], where)
        self.step, self.position, self.best = saved.step, state["position"], state["best"]
        self.stale = state["stale"]
        self.ledger.restore(state["ledger"])
        self.tokens.truncated = state["truncated_captions"] if self.world.leads else 0
        self.spikes.restore(state["spikes"])
        if self.average is not None:
            self.average.updates = state["average_updates"]

    def take_weights(self, saved: Parts, where: str) -> None:
        """Take weights, averaged ones if they are kept, and nothing else."""
        mine = {part: named for part, named in self._tensors().items() if part in ("model", "ema")}
        restore(mine, {part: saved[part] for part in mine}, where)

    def _tensors(self) -> Parts:
        parts = {
            "model": self.bundle.model.state_dict(),
            "optimizer": moments(self.bundle.model, self.optimizer),
        }
        return parts | ({"ema": self.average.weights} if self.average else {})
