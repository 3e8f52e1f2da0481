"""Result files: `metrics.json`, `results.jsonl` and Parquet predictions per task.

metrics.json     {dataset: {task: {metric: {value, low, high, n}}}}, the latest scores of the last model
results.jsonl    one line per score with everything that determines it; lines are only appended
predictions/     DATASET.TASK.parquet: one row per sample
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.atomic_io import append_lines, atomic_write
from zebra.errors import DataError
from zebra.values import Score

EvalMetrics = Mapping[str, Mapping[str, Mapping[str, Score]]]
"""Dataset → task → metric → score, for instance ["unseen-kinds"]["zero-shot"]["top1"]."""
RESULTS_FILENAME = "results.jsonl"
RESULTS_VERSION = 1
"""Version of a line in results.jsonl; increased when older versions of zebra would misread one."""
RESULT_PACKAGES = ("zebra-clip", "torch", "numpy", "scikit-learn", "scipy")


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """One score with everything that determines it."""

    dataset: str
    task: str
    metric: str
    score: Score
    dataset_digest: str
    """Digest of the data."""
    prompts_hash: str = ""
    """Hash of the prompts; empty for tasks without prompts."""
    seconds: float = 0.0
    """Duration of the task."""
    notes: tuple[str, ...] = ()
    """Remarks for readers of the score."""
    labels_per_class: float = 0.0
    """Mean number of training examples per class of a probe; 0 for tasks without training."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Model, seed, versions and time: see `collect_provenance`."""


def write_metrics(path: str | Path, metrics: EvalMetrics) -> None:
    """Write scores as JSON in the given order, atomically."""
    document = {
        name: {task: {metric: asdict(score) for metric, score in scores.items()} for task, scores in tasks.items()}
        for name, tasks in metrics.items()
    }
    with atomic_write(Path(path)) as partial:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def collect_provenance(seed: int) -> dict[str, Any]:
    """Return seed, versions and time."""
    return {
        "seed": seed,
        "versions": {name: metadata.version(name) for name in RESULT_PACKAGES},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def append_results(path: Path, records: Iterable[ResultRecord]) -> None:
    """Append one line per record; after a kill the file has all of them or none."""
    append_lines(path, (json.dumps({"version": RESULTS_VERSION} | asdict(record)) for record in records))


def read_results(path: Path) -> list[ResultRecord]:
    """Read all results, oldest first.

    Raises:
        DataError: The file is missing, a line is damaged, or a newer version of zebra wrote it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the results {path} ({error}). Run `zebra evaluate` first.") from error
    return [_parse_record(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def read_latest_results(run_dir: Path) -> dict[tuple[str, str, str], ResultRecord]:
    """Read `results.jsonl` of a directory as (dataset, task, metric) → result; later lines replace earlier ones.

    Raises:
        DataError: As `read_results`.
    """
    results = read_results(run_dir / RESULTS_FILENAME)
    return {(result.dataset, result.task, result.metric): result for result in results}


def _parse_record(line: str, location: str) -> ResultRecord:
    try:
        fields = json.loads(line)
        version = fields.pop("version")
        if version > RESULTS_VERSION:
            raise DataError(
                f"{location} was written by a newer zebra (version {version}; this one reads {RESULTS_VERSION}). "
                "Upgrade with pip install -U zebra-clip."
            )
        return ResultRecord(**fields | {"score": Score(**fields["score"]), "notes": tuple(fields["notes"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{location} is not a result ({error!r}). Remove the line, or evaluate into a new directory."
        ) from error


def write_predictions(predictions_dir: Path, dataset: str, task: str, predictions: pa.Table) -> None:
    """Write one row per sample to DATASET.TASK.parquet, atomically; an earlier file is replaced."""
    predictions_dir.mkdir(parents=True, exist_ok=True)
    with atomic_write(predictions_path(predictions_dir, dataset, task)) as partial:
        pq.write_table(predictions, partial)


def read_predictions(predictions_dir: Path, dataset: str, task: str) -> pa.Table | None:
    """Return what `write_predictions` wrote; None if there is no file."""
    path = predictions_path(predictions_dir, dataset, task)
    return pq.read_table(path) if path.is_file() else None


def predictions_path(predictions_dir: Path, dataset: str, task: str) -> Path:
    """Return the path of a dataset's predictions; characters that are unsafe in file names become "-"."""
    return predictions_dir / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', dataset)}.{task}.parquet"
