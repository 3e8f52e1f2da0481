"""What a task found on a set in; metrics.json, results.jsonl and predictions out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from zebra.errors import ConfigError
from zebra.evaluators.results_io import (
    Metrics,
    Result,
    append_results,
    provenance,
    write_metrics,
    write_predictions,
)
from zebra.pretrained.bundle import Bundle
from zebra.protocols.zero_shot import ZeroShot
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class Outcome:
    """One task on one set."""

    set: str
    task: str
    scores: Mapping[str, Score]
    digest: str
    """Of the set."""
    prompts: str = ""
    """Hash of what was said, where something was."""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    answers: pa.Table | None = field(default=None, repr=False)
    """A row per sample."""
    chance: float | None = None
    """Top-1 of guessing, where there are classes."""


def open_folder(out: str) -> Path:
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


def keep(
    out: Path, clip: Bundle, model: str, outcomes: Sequence[Outcome], *, split: str, seed: int
) -> Metrics:
    """Write `metrics.json`, add to `results.jsonl`, and write the predictions."""
    metrics = as_metrics(outcomes)
    write_metrics(out / "metrics.json", metrics)
    about = provenance(seed) | {
        "fingerprint": clip.fingerprint,
        "model": model,
        "preprocess": clip.preprocess.to_json(),
        "precision": clip.precision,
        "backend": clip.backend,
        "split": split,
    }
    append_results(
        out / "results.jsonl", [result for outcome in outcomes for result in as_results(outcome, about)]
    )
    for outcome in outcomes:
        if outcome.answers is not None:
            write_predictions(out / "predictions", outcome.set, outcome.task, outcome.answers)
    return metrics


def as_metrics(outcomes: Sequence[Outcome]) -> Metrics:
    """Return set → task → metric → score."""
    metrics: dict[str, dict[str, Mapping[str, Score]]] = {}
    for outcome in outcomes:
        metrics.setdefault(outcome.set, {})[outcome.task] = outcome.scores
    return metrics


def as_results(outcome: Outcome, about: Mapping[str, object]) -> list[Result]:
    """Return a record for each score."""
    return [
        Result(
            set=outcome.set,
            task=outcome.task,
            metric=metric,
            score=score,
            dataset=outcome.digest,
            prompts=outcome.prompts,
            seconds=outcome.seconds,
            notes=outcome.notes,
            about=about,
        )
        for metric, score in outcome.scores.items()
    ]


def scores_by(outcome: ZeroShot, metric: str) -> dict[str, Score]:
    """Return all scores, and the one that a set is usually scored by if it is not among them."""
    scores = outcome.scores()
    return scores | ({metric: outcome.mean_top1_top5()} if metric == "mean_top1_top5" else {})
