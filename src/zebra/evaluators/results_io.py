"""Scores in, files out, and back: `metrics.json`, `results.jsonl` and a Parquet file of predictions for each task.

metrics.json     {set: {task: {metric: {value, low, high, n}}}}, of the last evaluation
results.jsonl    a line per score with all that decided it; lines are only ever added
predictions/     SET.TASK.parquet: a row per sample
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

from zebra.errors import DataError
from zebra.values import Score

EvalMetrics = Mapping[str, Mapping[str, Mapping[str, Score]]]
"""Set → task → metric → score, for instance ["unseen-kinds"]["zero-shot"]["top1"]."""


def write_metrics(path: str | Path, metrics: EvalMetrics) -> None:
    """Write scores as JSON, in the order given; the file appears whole or not at all."""
    document = {
        name: {
            task: {metric: asdict(score) for metric, score in scores.items()}
            for task, scores in tasks.items()
        }
        for name, tasks in metrics.items()
    }
    path = Path(path)
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def read_metrics(path: str | Path) -> EvalMetrics:
    """Read a `metrics.json`.

    Raises:
        DataError: the file is missing or has another layout.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        return {
            name: {
                task: {metric: Score(**score) for metric, score in scores.items()}
                for task, scores in tasks.items()
            }
            for name, tasks in document.items()
        }
    except FileNotFoundError as error:
        raise DataError(f"there are no scores at {path}; `zebra evaluate` writes them") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a metrics.json of set → task → metric → value, low, high, n ({error}); evaluate again"
        ) from error


RESULTS_VERSION = 1
"""Of a line in results.jsonl; raised whenever an older zebra would read one wrongly."""
RESULT_PACKAGES = ("zebra-clip", "torch", "numpy", "scikit-learn", "scipy")


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """One score with all that decided it."""

    dataset: str
    task: str
    metric: str
    score: Score
    dataset_digest: str
    """Digest of the set."""
    prompts_hash: str = ""
    """Hash of what was said about the classes."""
    seconds: float = 0.0
    """Of the task."""
    notes: tuple[str, ...] = ()
    """What a reader of the score should know."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Of the model and the machine: see `provenance`."""


def collect_provenance(seed: int) -> dict[str, Any]:
    """Return what decided the results of a run beside its model: seed, versions and time."""
    return {
        "seed": seed,
        "versions": {name: metadata.version(name) for name in RESULT_PACKAGES},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def append_results(path: Path, records: Iterable[ResultRecord]) -> None:
    """Add a line for each result behind those that are there."""
    lines = [json.dumps({"version": RESULTS_VERSION} | asdict(result)) + "\n" for result in records]
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))


def read_results(path: Path) -> list[ResultRecord]:
    """Read all results, oldest first.

    Raises:
        DataError: The file is missing, a line is damaged, or a newer zebra wrote it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"there are no results at {path} ({error}); `zebra evaluate` writes them") from error
    return [_parse_record(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def read_latest_results(run_dir: Path) -> dict[tuple[str, str, str], ResultRecord]:
    """Read a run's `results.jsonl` as (set, task, metric) → result; of a score measured several times the last counts.

    Raises:
        DataError: As `read_results`.
    """
    results = read_results(run_dir / "results.jsonl")
    return {(result.dataset, result.task, result.metric): result for result in results}


def _parse_record(line: str, where: str) -> ResultRecord:
    try:
        held = json.loads(line)
        version = held.pop("version")
        if version > RESULTS_VERSION:
            raise DataError(
                f"{where} was written by a newer zebra (version {version}, this one reads {RESULTS_VERSION}): "
                "pip install -U zebra-clip"
            )
        return ResultRecord(**held | {"score": Score(**held["score"]), "notes": tuple(held["notes"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{where} is no result ({error!r}); remove the line, or evaluate into a new folder"
        ) from error


def write_predictions(predictions_dir: Path, dataset: str, task: str, predictions: pa.Table) -> None:
    """Write a row per sample into FOLDER/NAME.TASK.parquet, in place of an earlier run's."""
    predictions_dir.mkdir(parents=True, exist_ok=True)
    path = predictions_path(predictions_dir, dataset, task)
    draft = path.with_name(path.name + ".part")
    pq.write_table(predictions, draft)
    draft.replace(path)


def read_predictions(predictions_dir: Path, dataset: str, task: str) -> pa.Table | None:
    """Return what `write_predictions` wrote; None if the task leaves none."""
    path = predictions_path(predictions_dir, dataset, task)
    return pq.read_table(path) if path.is_file() else None


def predictions_path(predictions_dir: Path, dataset: str, task: str) -> Path:
    """Return where the predictions of a set lie, whatever characters its name has."""
    return predictions_dir / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', dataset)}.{task}.parquet"
