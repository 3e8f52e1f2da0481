"""What a task found on a set in; metrics.json, results.jsonl and predictions out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from zebra.errors import ConfigError
from zebra.evaluators.results_io import (
    EvalMetrics,
    ResultRecord,
    append_results,
    collect_provenance,
    write_metrics,
    write_predictions,
)
from zebra.pretrained.bundle import Bundle
from zebra.protocols.zero_shot import ClassificationResult
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task on one set."""

    dataset: str
    task: str
    scores: Mapping[str, Score]
    dataset_digest: str
    """Of the set."""
    prompts_hash: str = ""
    """Hash of what was said, where something was."""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    predictions: pa.Table | None = field(default=None, repr=False)
    """A row per sample."""
    chance_accuracy: float | None = None
    """Top-1 of guessing, where there are classes."""


def create_out_dir(out: str) -> Path:
    """Make the folder of results, before anything is computed for it.

    Raises:
        ConfigError: There is a file of that name, or the folder cannot be made.
    """
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be a folder ({error.strerror}); name another") from error
    return path


def save_results(
    out_dir: Path, clip: Bundle, model: str, results: Sequence[TaskResult], *, split: str, seed: int
) -> EvalMetrics:
    """Write `metrics.json`, add to `results.jsonl`, and write the predictions."""
    metrics = to_metrics(results)
    write_metrics(out_dir / "metrics.json", metrics)
    about = collect_provenance(seed) | {
        "fingerprint": clip.fingerprint,
        "model": model,
        "preprocess": clip.preprocess.to_dict(),
        "precision": clip.precision,
        "backend": clip.backend,
        "split": split,
    }
    append_results(
        out_dir / "results.jsonl", [result for outcome in results for result in to_records(outcome, about)]
    )
    for outcome in results:
        if outcome.predictions is not None:
            write_predictions(out_dir / "predictions", outcome.dataset, outcome.task, outcome.predictions)
    return metrics


def to_metrics(results: Sequence[TaskResult]) -> EvalMetrics:
    """Return set → task → metric → score."""
    metrics: dict[str, dict[str, Mapping[str, Score]]] = {}
    for outcome in results:
        metrics.setdefault(outcome.dataset, {})[outcome.task] = outcome.scores
    return metrics


def to_records(result: TaskResult, provenance: Mapping[str, object]) -> list[ResultRecord]:
    """Return a record for each score."""
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
            provenance=provenance,
        )
        for metric, score in result.scores.items()
    ]


def scores_with_primary_metric(result: ClassificationResult, metric: str) -> dict[str, Score]:
    """Return all scores, and the one that a set is usually scored by if it is not among them."""
    scores = result.scores()
    return scores | ({metric: result.mean_top1_top5()} if metric == "mean_top1_top5" else {})
