"""Batches in, an exact account per epoch out: consumed + skipped == found, with substitutes counted apart."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zebra.errors import DataError
from zebra.values import Batch, Skip

EXAMPLES = 3


@dataclass(slots=True)
class _Epoch:
    positions: int = 0
    """Samples of the epoch whose turn has come, good or bad."""
    skipped: Counter[str] = field(default_factory=Counter)
    """By reason."""
    examples: list[str] = field(default_factory=list)

    @property
    def unusable(self) -> int:
        return self.skipped.total()


class Ledger:
    """Counts what became of every sample found, and stops a run that loses too many.

    An epoch visits each sample once. Each visit ends in exactly one of two ways: the sample is consumed, or it is
    skipped and one substitute takes its place in the batch.
    """

    def __init__(self, found: int, max_skip_rate: float, skipped_path: Path | None) -> None:
        self.found = found
        self.max_skip_rate = max_skip_rate
        self.skipped_path = skipped_path
        self._epochs: dict[int, _Epoch] = {}
        self._written = 0
        self._rewound = False

    def add(self, position: int, batch: Batch, ranks: int = 1) -> None:
        """Count the batch whose first sample stands at `position`, and append its skips to the file.

        Args:
            ranks: Processes that have as large a share of it; the skips are those of all.

        Raises:
            DataError: More of an epoch is unusable than `max_skip_rate` allows.
        """
        behind = position + ranks * len(batch.ids)
        while position < behind:
            epoch = position // self.found
            end = min(behind, (epoch + 1) * self.found)
            self._epochs.setdefault(epoch, _Epoch()).positions += end - position
            position = end
        for skip in batch.skips:
            account = self._epochs[skip.epoch]
            account.skipped[skip.reason] += 1
            if len(account.examples) < EXAMPLES:
                account.examples.append(f"{skip.id} ({skip.reason}{': ' * bool(skip.detail)}{skip.detail})")
        self._append(batch.skips)
        for epoch in {skip.epoch for skip in batch.skips}:
            self._check(epoch)

    def summary(self) -> dict[str, Any]:
        """Return what became of the samples of every epoch begun, ready for JSON."""
        return {
            "found": self.found,
            "epochs": [
                {
                    "epoch": number,
                    "consumed": epoch.positions - epoch.unusable,
                    "skipped": dict(epoch.skipped.most_common()),
                    "substitutes": epoch.unusable,
                    "complete": epoch.positions == self.found,
                }
                for number, epoch in sorted(self._epochs.items())
            ],
        }

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, ready for JSON."""
        epochs = {
            str(number): {
                "positions": epoch.positions,
                "skipped": dict(epoch.skipped),
                "examples": list(epoch.examples),
            }
            for number, epoch in self._epochs.items()
        }
        return {"found": self.found, "skipped_bytes": self._written, "epochs": epochs}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state`; skips written after it are dropped from the file by the next `add`."""
        self._written = int(state["skipped_bytes"])
        self._rewound = False
        self._epochs = {
            int(number): _Epoch(raw["positions"], Counter(raw["skipped"]), list(raw["examples"]))
            for number, raw in state["epochs"].items()
        }

    def _append(self, skips: tuple[Skip, ...]) -> None:
        """Write one line per skip, behind what belongs to the batches counted so far and nothing else.

        A run that was killed has written beyond its last checkpoint; these batches come again.
        """
        if self.skipped_path is None or (self._rewound and not skips):
            return
        lines = "".join(json.dumps(asdict(skip)) + "\n" for skip in skips).encode()
        with self.skipped_path.open("ab") as file:
            if not self._rewound:
                self._written = min(self._written, file.tell())
                file.truncate(self._written)
                self._rewound = True
            file.write(lines)
        self._written += len(lines)

    def _check(self, number: int) -> None:
        epoch = self._epochs[number]
        if epoch.unusable <= self.max_skip_rate * self.found:
            return
        reasons = ", ".join(f"{count} {reason}" for reason, count in epoch.skipped.most_common())
        listed = f"; all are listed in {self.skipped_path}" if self.skipped_path else ""
        raise DataError(
            f"{epoch.unusable} of {self.found} samples are unusable in epoch {number}, more than the "
            f"{self.max_skip_rate:.2%} allowed: {reasons}. For instance {'; '.join(epoch.examples)}{listed}. "
            f"Mend or remove them, or allow more with --data-options.max-skip-rate"
        )
