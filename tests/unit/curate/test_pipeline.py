"""Stages in order: rules drop, measurements add columns for what remains, counts add up."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from zebra.curate.look import look_at_rules
from zebra.curate.measurements import Measurement
from zebra.curate.pairs import Pairs
from zebra.curate.pipeline import apply_stages
from zebra.curate.rules import PairRule, ReasonRule

UNITS = [["horse", "dog", "12"], [], ["zebra", "ok", None]]


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    files = []
    for number, texts in enumerate(UNITS):
        path = tmp_path / f"{number}.parquet"
        reasons = [None if text else "missing caption" for text in texts]
        schema = pa.schema({"uid": pa.binary(16), "id": pa.string(), "text": pa.string(), "reason": pa.string()})
        ids = [f"{number}/{row}" for row in range(len(texts))]
        columns = [[name.encode().ljust(16) for name in ids], ids, texts, reasons]
        pq.write_table(pa.table(columns, schema=schema), path)
        files.append(path)
    return Pairs(files)


def measure_length(calls: list[list[str]], key: str = "1", *, limit: int = 4) -> Measurement:
    """Return a measurement of the length of each text; over the limit, the text is a failure."""

    def compute(table: pa.Table) -> pa.Table:
        texts = table["text"].to_pylist()
        calls.append(texts)
        failures = ["too long" if len(text) > limit else None for text in texts]
        return pa.table({"length": [len(text) for text in texts], "failure": pa.array(failures, pa.string())})

    schema = pa.schema({"length": pa.int64(), "failure": pa.string()})
    return Measurement("measure", key, ("text",), schema, compute)


DROP_NUMBERS = PairRule("text", "number", ("text",), lambda table: pc.match_substring_regex(table["text"], r"^\d+$"))
DROP_SHORT = PairRule("length", "short", ("length",), lambda table: pc.less(table["length"], 3))


def test_columns_are_measured_for_the_pairs_that_remain_and_rules_read_them(pairs: Pairs, tmp_path: Path) -> None:
    calls: list[list[str]] = []
    stages = [
        ReasonRule("read", "reason"),
        DROP_NUMBERS,
        measure_length(calls),
        ReasonRule("measure", "failure"),
        DROP_SHORT,
    ]
    counts = apply_stages(pairs, stages, tmp_path)
    assert calls == [["horse", "dog"], [], ["zebra", "ok"]]
    assert [(count.stage, count.reason, count.found, count.dropped) for count in counts] == [
        ("read", "missing caption", 6, 1),
        ("text", "number", 5, 1),
        ("measure", "too long", 4, 2),
        ("length", "short", 2, 1),
    ]
    assert [table.to_pydict() for table in pairs.read_kept(("length", "text"))] == [{"length": [3], "text": ["dog"]}]
    assert [decision_N.tolist() for _, decision_N in pairs.read_decisions(("text",))] == [[2, -1, 1, 2, 3, 0]]


def test_a_measurement_is_computed_once_for_the_same_settings_and_pairs(pairs: Pairs, tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def run(*stages: object) -> int:
        calls.clear()
        apply_stages(pairs.without_decisions(), [ReasonRule("read", "reason"), *stages], tmp_path)
        return len(calls)

    assert run(measure_length(calls)) == 3
    assert run(measure_length(calls)) == 0
    assert run(measure_length(calls, "2")) == 3  # other settings
    assert run(DROP_NUMBERS, measure_length(calls)) == 1  # another text of the first unit is dropped before


def test_a_look_measures_before_rules_and_counts_failures_in_order(pairs: Pairs, tmp_path: Path) -> None:
    calls: list[list[str]] = []
    stages = [ReasonRule("read", "reason"), DROP_NUMBERS, measure_length(calls), ReasonRule("measure", "failure")]
    looks = look_at_rules(pairs, [*stages, DROP_SHORT], tmp_path, lambda _done, _total, _stage: None)
    assert {look.reason: (look.alone, look.in_order) for look in looks} == {
        "missing caption": (1, 1),
        "number": (1, 1),
        "too long": (2, 2),
        "short": (2, 1),
    }
    assert calls == [["horse", "dog", "12"], [], ["zebra", "ok"]]
