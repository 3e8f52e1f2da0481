"""Results of an interrupted evaluation, with which the next run continues.

`unfinished.jsonl` has a line with the identity of the evaluation, and one line per finished dataset. It is removed when
all datasets are finished.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from zebra.atomic_io import append_lines
from zebra.evaluators.results import TaskResult
from zebra.evaluators.results_io import RESULTS_FILENAME
from zebra.values import Score


class UnfinishedEvaluation:
    """Results by dataset of an evaluation that has not ended."""

    def __init__(self, out_dir: Path, identity: Mapping[str, Any]) -> None:
        """Read the finished datasets of an earlier run, if it was the same evaluation.

        Args:
            out_dir: The output directory.
            identity: All that determines the results, apart from the datasets; can be encoded as JSON.
        """
        self._path, self._results_path = out_dir / "unfinished.jsonl", out_dir / RESULTS_FILENAME
        self._identity = json.loads(json.dumps(identity))
        self._results = self._read()

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the finished datasets."""
        return tuple(dataset for dataset, _ in self._results)

    def find(self, dataset: str, digest: str) -> list[TaskResult] | None:
        """Return the results on a dataset, without predictions; None if it is not finished or has changed."""
        return self._results.get((dataset, digest))

    def add(self, dataset: str, digest: str, results: Sequence[TaskResult]) -> None:
        """Record that a dataset is finished."""
        entries = [asdict(replace(result, predictions=None)) for result in results]
        lines = [] if self._path.exists() else [json.dumps(self._identity)]
        append_lines(self._path, [*lines, json.dumps({"dataset": dataset, "digest": digest, "results": entries})])

    def finish(self) -> None:
        """Remove the file: all datasets are finished."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[tuple[str, str], list[TaskResult]]:
        try:
            identity, *entries = map(json.loads, self._path.read_text(encoding="utf-8").splitlines())
            if identity == self._identity and self._results_path.exists():
                return {
                    (entry["dataset"], entry["digest"]): [_parse_result(result) for result in entry["results"]]
                    for entry in entries
                }
        except (OSError, ValueError, TypeError, KeyError):  # none, or damaged when the machine stopped: evaluate again
            pass
        self._path.unlink(missing_ok=True)
        return {}


def _parse_result(entry: dict[str, Any]) -> TaskResult:
    scores = {metric: Score(**score) for metric, score in entry["scores"].items()}
    return TaskResult(**entry | {"scores": scores, "notes": tuple(entry["notes"])})
