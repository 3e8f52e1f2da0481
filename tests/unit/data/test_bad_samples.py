"""Unusable samples are described by reason with examples, and listed."""

import json
import pickle
from pathlib import Path

from zebra.data.bad_samples import NoUsableSamples, describe_bad_samples, write_bad_samples
from zebra.errors import BadSample

BAD_SAMPLES = [
    *(BadSample("unreadable file", f"t.csv:{line}", f"{line}.jpg: No such file") for line in range(2, 6)),
    BadSample("empty caption", "t.csv:9"),
]


def test_each_reason_has_a_count_and_an_example() -> None:
    assert describe_bad_samples(BAD_SAMPLES) == (
        "4 unreadable file, 1 empty caption. Examples: t.csv:2 (unreadable file: 2.jpg: No such file); "
        "t.csv:9 (empty caption); t.csv:3 (unreadable file: 3.jpg: No such file)"
    )


def test_the_error_counts_each_sample_once_and_can_be_pickled() -> None:
    error = NoUsableSamples("t.csv", 5, [*BAD_SAMPLES, *BAD_SAMPLES])
    assert str(error).startswith("5 of 5 samples are unusable in t.csv: 4 unreadable file, 1 empty")
    assert "`zebra doctor t.csv`" in str(error)
    assert str(NoUsableSamples("t.csv", 9, BAD_SAMPLES)).startswith("5 of 5 tried samples are unusable in t.csv: ")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.bad_samples[4].reason) == (str(error), "empty caption")


def test_bad_samples_are_listed_as_those_of_a_run(tmp_path: Path) -> None:
    write_bad_samples(tmp_path / "out" / "skipped.jsonl", BAD_SAMPLES)
    lines = (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["t.csv:2", "t.csv:3", "t.csv:4", "t.csv:5", "t.csv:9"]
    assert json.loads(lines[0]) == {
        "epoch": 0,
        "id": "t.csv:2",
        "reason": "unreadable file",
        "detail": "2.jpg: No such file",
    }
