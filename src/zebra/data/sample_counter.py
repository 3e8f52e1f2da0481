"""Batches in, an exact account per epoch out: consumed + skipped == found, with substitutes counted apart."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zebra.errors import DataError
from zebra.values import Batch, Skip

MAX_EXAMPLES_PER_EPOCH = 3


@dataclass(slots=True)
class _EpochCounts:
    num_visited: int = 0
    """Samples of the epoch whose turn has come, good or bad."""
    skipped: Counter[str] = field(default_factory=Counter)
    """By reason."""
    examples: list[str] = field(default_factory=list)

    @property
    def num_skipped(self) -> int:
        return self.skipped.total()


class SampleCounter:
    """Counts what became of every sample found, and stops a run that loses too many.

    An epoch visits each sample once. Each visit ends in exactly one of two ways: the sample is consumed, or it is
    skipped and one substitute takes its place in the batch.
    """

    def __init__(self, num_samples: int, max_skip_rate: float, skipped_path: Path | None) -> None:
        self.num_samples = num_samples
        self.max_skip_rate = max_skip_rate
        self.skipped_path = skipped_path
        self._epochs: dict[int, _EpochCounts] = {}
        self._written_bytes = 0
        self._is_truncated = False

    def add(self, position: int, batch: Batch, world_size: int = 1) -> None:
        """Count the batch whose first sample stands at `position`, and append its skips to the file.

        Args:
            world_size: Processes that have as large a share of it; the skips are those of all.

        Raises:
            DataError: More of an epoch is unusable than `max_skip_rate` allows.
        """
        behind = position + world_size * len(batch.ids)
        while position < behind:
            epoch = position // self.num_samples
            end = min(behind, (epoch + 1) * self.num_samples)
            self._epochs.setdefault(epoch, _EpochCounts()).num_visited += end - position
            position = end
        for skip in batch.skips:
            account = self._epochs[skip.epoch]
            account.skipped[skip.reason] += 1
            if len(account.examples) < MAX_EXAMPLES_PER_EPOCH:
                account.examples.append(f"{skip.id} ({skip.reason}{': ' * bool(skip.detail)}{skip.detail})")
        self._append_skips(batch.skips)
        for epoch in {skip.epoch for skip in batch.skips}:
            self._check_skip_rate(epoch)

    def summary(self) -> dict[str, Any]:
        """Return what became of the samples of every epoch begun, ready for JSON."""
        return {
            "found": self.num_samples,
            "epochs": [
                {
                    "epoch": number,
                    "consumed": epoch.num_visited - epoch.num_skipped,
                    "skipped": dict(epoch.skipped.most_common()),
                    "substitutes": epoch.num_skipped,
                    "complete": epoch.num_visited == self.num_samples,
                }
                for number, epoch in sorted(self._epochs.items())
            ],
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, ready for JSON."""
        epochs = {
            str(number): {
                "positions": epoch.num_visited,
                "skipped": dict(epoch.skipped),
                "examples": list(epoch.examples),
            }
            for number, epoch in self._epochs.items()
        }
        return {"found": self.num_samples, "skipped_bytes": self._written_bytes, "epochs": epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state`; skips written after it are dropped from the file by the next `add`."""
        self._written_bytes = int(state["skipped_bytes"])
        self._is_truncated = False
        self._epochs = {
            int(number): _EpochCounts(raw["positions"], Counter(raw["skipped"]), list(raw["examples"]))
            for number, raw in state["epochs"].items()
        }

    def _append_skips(self, skips: tuple[Skip, ...]) -> None:
        """Write one line per skip, behind what belongs to the batches counted so far and nothing else.

        A run that was killed has written beyond its last checkpoint; these batches come again.
        """
        if self.skipped_path is None or (self._is_truncated and not skips):
            return
        lines = "".join(json.dumps(asdict(skip)) + "\n" for skip in skips).encode()
        with self.skipped_path.open("ab") as file:
            if not self._is_truncated:
                self._written_bytes = min(self._written_bytes, file.tell())
                file.truncate(self._written_bytes)
                self._is_truncated = True
            file.write(lines)
        self._written_bytes += len(lines)

    def _check_skip_rate(self, epoch_number: int) -> None:
        epoch = self._epochs[epoch_number]
        if epoch.num_skipped <= self.max_skip_rate * self.num_samples:
            return
        reasons = ", ".join(f"{count} {reason}" for reason, count in epoch.skipped.most_common())
        listed = f"; all are listed in {self.skipped_path}" if self.skipped_path else ""
        raise DataError(
            f"{epoch.num_skipped} of {self.num_samples} samples are unusable in epoch {epoch_number}, more than the "
            f"{self.max_skip_rate:.2%} allowed: {reasons}. For instance {'; '.join(epoch.examples)}{listed}. "
            f"Mend or remove them, or allow more with --data-options.max-skip-rate"
        )
