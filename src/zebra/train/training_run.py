"""The log of a training run, for comparisons with other runs."""

import json
from dataclasses import dataclass
from pathlib import Path

from zebra.errors import DataError
from zebra.train.metrics_logger import LogLine, read_log
from zebra.train.run_dir import RunDir


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a run directory says about its training, finished or not."""

    log_entries: tuple[LogLine, ...]
    """The lines of log.jsonl, at least one."""
    data_digest: str
    """Digest of the training data; "" before the end of the run."""

    def last_scores(self) -> dict[str, float]:
        """Return the last value of each validation score, in [0, 1]."""
        return {name: score for line in self.log_entries for name, score in line.get("eval", {}).items()}


def read_training_run(path: str | Path) -> TrainingRun | None:
    """Read the log of a run directory; None if it has none.

    Raises:
        DataError: The log or data.json is damaged.
    """
    run_dir = RunDir(path)
    try:
        entries = read_log(run_dir.log) if run_dir.log.is_file() else []
        counts = run_dir.sample_counts.read_text(encoding="utf-8") if run_dir.sample_counts.is_file() else "{}"
        digest = json.loads(counts).get("digest", "")
        complete = [line for line in entries if {"step", "samples", "loss"} <= line.keys()]
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"the training log of {path} cannot be read ({error}). Name another run") from error
    return TrainingRun(tuple(complete), digest) if complete else None
