"""Scores as `model-index`, which the hub shows from the front matter of a card.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zebra.data.benchmarks.catalog import find_catalog_entry
from zebra.errors import DataError
from zebra.evaluators.run_comparison import ComparisonRow
from zebra.pretrained.locate import hub_repository

TASK_TYPES = {
    "zero-shot": "zero-shot-image-classification",
    "prompts": "zero-shot-image-classification",
    "linear-probe": "image-classification",
    "few-shot": "image-classification",
}
"""Beginning of a task's name → the hub's identifier; the hub has none for the others, which keep their names."""
METRIC_TYPES = {"top1": "accuracy", "macro_f1": "f1"}
"""Metric → the hub's identifier, where it differs."""


def build_model_index(runs: Sequence[str], rows: Sequence[ComparisonRow]) -> list[Mapping[str, Any]]:
    """Return an entry for each run, with a result for each task on a dataset.

    Values are fractions, as those of the hub's accuracy and F1. The hub has no field for an interval, so the name of
    the metric has it. A dataset of the hub is named by its repository; `args` has the digest of the data.

    Args:
        runs: Names of models, or paths, of which the last part counts.
        rows: One score per run each; a run leaves out the scores that it does not have.
    """
    entries: list[Mapping[str, Any]] = []
    for position, run in enumerate(runs):
        results: dict[tuple[str, str], dict[str, Any]] = {}
        for row in rows:
            score = row.scores[position]
            if score is None:
                continue
            result = results.setdefault(
                (row.dataset, row.task),
                {"task": _describe_task(row.task), "dataset": _describe_dataset(row), "metrics": []},
            )
            name = f"{row.metric} (95 % interval {score.low:.4g} to {score.high:.4g}, n = {score.n:,})"
            metric_type = METRIC_TYPES.get(row.metric, row.metric)
            result["metrics"].append({"type": metric_type, "value": round(score.value, 6), "name": name})
        entries.append({"name": _name_model(run), "results": list(results.values())})
    return entries


def format_front_matter(runs: Sequence[str], rows: Sequence[ComparisonRow]) -> str:
    """Format the scores as the front matter of a model card; see `build_model_index`."""
    text = yaml.safe_dump({"model-index": build_model_index(runs, rows)}, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n"


def _name_model(run: str) -> str:
    return hub_repository(run) or Path(run).absolute().name


def _describe_task(task: str) -> Mapping[str, str]:
    types = [type_ for beginning, type_ in TASK_TYPES.items() if task.startswith(beginning)]
    return {"type": types[0] if types else task, "name": task}


def _describe_dataset(row: ComparisonRow) -> Mapping[str, Any]:
    try:
        entry = find_catalog_entry(row.dataset.removeprefix("wds_"))
    except DataError:
        repository, title = row.dataset, row.dataset
    else:
        repository, title = f"clip-benchmark/{entry.hub_name}" if entry.hub_name else entry.name, entry.title
    description: dict[str, Any] = {"type": repository, "name": title}
    if row.split:
        description["split"] = row.split
    if row.dataset_digest:
        description["args"] = {"digest": row.dataset_digest}
    return description
