"""Result files: written completely or not at all, with the given scores."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.evaluators.results_io import write_metrics
from zebra.values import Score

NAMES = st.text(max_size=8)
FRACTIONS = st.floats(0, 1)
SCORES = st.builds(Score, FRACTIONS, FRACTIONS, FRACTIONS, st.integers(0))
METRICS = st.dictionaries(
    NAMES, st.dictionaries(NAMES, st.dictionaries(NAMES, SCORES, max_size=2), max_size=2), max_size=2
)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_scores_are_stored_by_dataset_task_and_metric(tmp_path: Path) -> None:
    score = Score(value=0.93, low=0.91, high=0.95, n=1000)
    write_metrics(tmp_path / "metrics.json", {"unseen-kinds": {"zero-shot": {"top1": score}}})
    expected = {"value": 0.93, "low": 0.91, "high": 0.95, "n": 1000}
    assert read(tmp_path / "metrics.json") == {"unseen-kinds": {"zero-shot": {"top1": expected}}}


@given(metrics=METRICS)
def test_json_keeps_every_score(
    tmp_path_factory: pytest.TempPathFactory, metrics: dict[str, dict[str, dict[str, Score]]]
) -> None:
    path = tmp_path_factory.mktemp("scores") / "metrics.json"
    write_metrics(path, metrics)
    assert read(path) == {
        name: {task: {metric: asdict(score) for metric, score in scores.items()} for task, scores in tasks.items()}
        for name, tasks in metrics.items()
    }


def test_a_rewrite_leaves_one_file(tmp_path: Path) -> None:
    for value in (0.5, 0.6):
        write_metrics(tmp_path / "metrics.json", {"a": {"b": {"c": Score(value, 0, 1, 9)}}})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    assert read(tmp_path / "metrics.json")["a"]["b"]["c"]["value"] == 0.6
