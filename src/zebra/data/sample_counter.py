"""Exact counts of consumed, skipped and substituted samples per epoch."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zebra.data.bad_samples import format_example, format_reasons
from zebra.errors import DataError
from zebra.values import Batch, Skip

MAX_EXAMPLES_PER_EPOCH = 3


@dataclass(slots=True)
class _EpochCounts:
    num_visited: int = 0
    """Number of samples of the epoch that were loaded or skipped so far."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Reason → number of samples."""
    examples: list[str] = field(default_factory=list)

    @property
    def num_skipped(self) -> int:
        return self.skipped.total()


class SampleCounter:
    """Count consumed and skipped samples, and stop a run that skips too many.

    An epoch visits each sample once. The sample is either consumed, or skipped and replaced by one substitute. So in a
    complete epoch, consumed + skipped = num_samples.
    """

    def __init__(self, num_samples: int, max_skip_rate: float, skipped_path: Path | None) -> None:
        self.num_samples = num_samples
        self.max_skip_rate = max_skip_rate
        self.skipped_path = skipped_path
        self._epochs: dict[int, _EpochCounts] = {}
        self._written_bytes = 0
        self._is_truncated = False

    def add(self, position: int, batch: Batch, world_size: int = 1) -> None:
        """Count a batch and append its skips to `skipped_path`.

        Args:
            position: Position of the first sample of the global batch.
            batch: One rank's slice of the batch, with the skips of all ranks.
            world_size: Number of ranks, whose slices have equal size.

        Raises:
            DataError: An epoch has more skips than `max_skip_rate` allows.
        """
        batch_end = position + world_size * len(batch.ids)
        while position < batch_end:
            epoch = position // self.num_samples
            end = min(batch_end, (epoch + 1) * self.num_samples)
            self._epochs.setdefault(epoch, _EpochCounts()).num_visited += end - position
            position = end
        for skip in batch.skips:
            counts = self._epochs[skip.epoch]
            counts.skipped[skip.reason] += 1
            if len(counts.examples) < MAX_EXAMPLES_PER_EPOCH:
                counts.examples.append(format_example(skip.id, skip.reason, skip.detail))
        self._append_skips(batch.skips)
        for epoch in {skip.epoch for skip in batch.skips}:
            self._check_skip_rate(epoch)

    def summary(self) -> dict[str, Any]:
        """Return the counts of every started epoch as JSON values."""
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
        """Return the state for a checkpoint as JSON values."""
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
        """Restore a state; the next `add` truncates the skips that were written after it."""
        self._written_bytes = int(state["skipped_bytes"])
        self._is_truncated = False
        self._epochs = {
            int(number): _EpochCounts(counts["positions"], Counter(counts["skipped"]), list(counts["examples"]))
            for number, counts in state["epochs"].items()
        }

    def _append_skips(self, skips: tuple[Skip, ...]) -> None:
        """Append one line per skip after the lines of the batches counted so far.

        Lines after them are truncated: a killed run wrote them after its last checkpoint, and their batches are
        repeated.
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
        counts = self._epochs[epoch_number]
        if counts.num_skipped <= self.max_skip_rate * self.num_samples:
            return
        reasons = format_reasons(dict(counts.skipped.most_common()))
        reference = f"; {self.skipped_path} lists all" if self.skipped_path else ""
        raise DataError(
            f"{counts.num_skipped} of {self.num_samples} samples cannot be used in epoch {epoch_number}, more than the "
            f"{self.max_skip_rate:.2%} allowed: {reasons}. Examples: {'; '.join(counts.examples)}{reference}. "
            "Repair or remove them (`zebra doctor DATA` reports on all samples), or allow more with "
            "--data-options.max-skip-rate"
        )
