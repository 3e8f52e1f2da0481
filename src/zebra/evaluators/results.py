"""Results of evaluation tasks, and the files of an evaluation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from zebra.errors import ConfigError
from zebra.evaluators.results_io import (
    RESULTS_FILENAME,
    EvalMetrics,
    ResultRecord,
    append_results,
    collect_provenance,
    read_results,
    write_metrics,
    write_predictions,
)
from zebra.pretrained.bundle import Bundle
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Result of one task on one dataset."""

    dataset: str
    task: str
    scores: Mapping[str, Score]
    dataset_digest: str
    """Digest of the data."""
    prompts_hash: str = ""
    """Hash of the prompts; empty for tasks without prompts."""
    seconds: float = 0.0
    """Duration of the task."""
    notes: tuple[str, ...] = ()
    predictions: pa.Table | None = field(default=None, repr=False)
    """One row per sample."""
    chance_accuracy: float | None = None
    """Top-1 accuracy of uniform guessing; None for tasks without classes."""
    labels_per_class: float = 0.0
    """Mean number of training examples per class of a probe; 0 for tasks without training."""
    chance: Mapping[str, float] = field(default_factory=dict)
    """Metric → score of a model without knowledge, for tasks whose metrics differ in it."""


def create_out_dir(out: str) -> Path:
    """Create the output directory, before any computation.

    Raises:
        ConfigError: The path is a file, or the directory cannot be created.
        DataError: It has a `results.jsonl` to which results cannot be added, because a line is damaged.
    """
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot create the directory --out {out}: {error.strerror}. Name another one.") from error
    if (path / RESULTS_FILENAME).exists():
        read_results(path / RESULTS_FILENAME)
    return path


def save_results(
    out_dir: Path, clip: Bundle, model: str, results: Sequence[TaskResult], *, split: str, seed: int
) -> EvalMetrics:
    """Append to `results.jsonl`, write the predictions, and update `metrics.json`.

    `metrics.json` has the latest scores of this model in `results.jsonl`; those on other data under the same name are
    left out.

    Args:
        model: Name of the model as the user gave it.

    Returns:
        The scores of `results` alone.
    """
    provenance = collect_provenance(seed) | {
        "fingerprint": clip.fingerprint,
        "model": model,
        "preprocess": clip.preprocess.to_dict(),
        "precision": clip.precision,
        "backend": clip.backend,
        "split": split,
    }
    append_results(
        out_dir / RESULTS_FILENAME, [record for result in results for record in to_records(result, provenance)]
    )
    for result in results:
        if result.predictions is not None:
            write_predictions(out_dir / "predictions", result.dataset, result.task, result.predictions)
    write_metrics(out_dir / "metrics.json", _collect_metrics(read_results(out_dir / RESULTS_FILENAME), provenance))
    return to_metrics(results)


def _collect_metrics(records: Iterable[ResultRecord], provenance: Mapping[str, object]) -> EvalMetrics:
    """Return the scores of the model in `provenance` on the latest data of each dataset.

    Args:
        records: All results, oldest first.
        provenance: As in the records.
    """
    same_model = [
        record
        for record in records
        if all(record.provenance.get(key) == provenance[key] for key in ("fingerprint", "precision", "backend"))
    ]
    digests = {record.dataset: record.dataset_digest for record in same_model}
    metrics: dict[str, dict[str, dict[str, Score]]] = {}
    for record in same_model:
        if record.dataset_digest == digests[record.dataset]:
            metrics.setdefault(record.dataset, {}).setdefault(record.task, {})[record.metric] = record.score
    return metrics


def to_metrics(results: Sequence[TaskResult]) -> EvalMetrics:
    """Return dataset → task → metric → score."""
    metrics: dict[str, dict[str, Mapping[str, Score]]] = {}
    for result in results:
        metrics.setdefault(result.dataset, {})[result.task] = result.scores
    return metrics


def to_records(result: TaskResult, provenance: Mapping[str, object]) -> list[ResultRecord]:
    """Return one record per score."""
    return [
        ResultRecord(
            dataset=result.dataset,
            task=result.task,
            metric=metric,
            score=score,
            dataset_digest=result.dataset_digest,
            prompts_hash=result.prompts_hash,
            seconds=result.seconds,
            notes=result.notes,
            labels_per_class=result.labels_per_class,
            provenance=provenance,
        )
        for metric, score in result.scores.items()
    ]
