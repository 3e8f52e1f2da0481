import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zebra.errors import DataError
from zebra.evaluators.results_io import read_metrics, write_metrics
from zebra.values import Score

NAMES = st.text(max_size=8)
SHARES = st.floats(0, 1)
METRICS = st.dictionaries(
    NAMES,
    st.dictionaries(NAMES, st.dictionaries(NAMES, st.builds(Score, SHARES, SHARES, SHARES, st.integers(0)))),
)


def test_scores_are_found_by_set_task_and_metric(tmp_path: Path) -> None:
    score = Score(value=0.93, low=0.91, high=0.95, n=1000)
    write_metrics(tmp_path / "metrics.json", {"unseen-kinds": {"zero-shot": {"top1": score}}})
    document = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    expected = {"value": 0.93, "low": 0.91, "high": 0.95, "n": 1000}
    assert document == {"unseen-kinds": {"zero-shot": {"top1": expected}}}


@settings(max_examples=40)
@given(metrics=METRICS)
def test_scores_are_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, metrics: dict[str, dict[str, dict[str, Score]]]
) -> None:
    path = tmp_path_factory.mktemp("scores") / "metrics.json"
    write_metrics(path, metrics)
    assert read_metrics(path) == metrics


def test_a_rewrite_leaves_one_file(tmp_path: Path) -> None:
    for value in (0.5, 0.6):
        write_metrics(tmp_path / "metrics.json", {"a": {"b": {"c": Score(value, 0, 1, 9)}}})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    assert read_metrics(tmp_path / "metrics.json")["a"]["b"]["c"].value == 0.6


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"a": 1}', '{"a": {"b": 1}}', '{"a": {"b": {"c": 0.5}}}',
                '{"a": {"b": {"c": {"value": 0.5}}}}'],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.json is not .*; evaluate again"):
        read_metrics(tmp_path / "metrics.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no scores at .*metrics\.json; `zebra evaluate`"):
        read_metrics(tmp_path / "metrics.json")
