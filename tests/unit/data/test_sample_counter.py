"""Consumed and skipped samples add up exactly, also after crashes and resumes."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zebra.data.sample_counter import SampleCounter
from zebra.errors import DataError
from zebra.values import Batch, Skip


def batch(size: int, *skips: Skip) -> Batch:
    return Batch(torch.zeros(0), (), ("",) * size, (None,) * size, skips)


def bad(epoch: int, id: str, reason: str = "truncated image") -> Skip:
    return Skip(epoch, id, reason, "")


def lines(path: Path) -> list[tuple[int, str]]:
    return [(row["epoch"], row["id"]) for row in map(json.loads, path.read_text().splitlines())]


def test_a_batch_that_spans_two_epochs_counts_for_both() -> None:
    counter = SampleCounter(num_samples=5, max_skip_rate=1, skipped_path=None)
    counter.add(0, batch(4))
    counter.add(4, batch(4, bad(0, "a"), bad(1, "a"), bad(1, "b", "empty caption")))
    assert counter.summary() == {
        "found": 5,
        "epochs": [
            {"epoch": 0, "consumed": 4, "skipped": {"truncated image": 1}, "substitutes": 1, "complete": True},
            {
                "epoch": 1,
                "consumed": 1,
                "skipped": {"truncated image": 1, "empty caption": 1},
                "substitutes": 2,
                "complete": False,
            },
        ],
    }


@given(num_samples=st.integers(1, 60), batch_size=st.integers(1, 60), steps=st.integers(1, 40), data=st.data())
def test_every_complete_epoch_adds_up(num_samples: int, batch_size: int, steps: int, data: st.DataObject) -> None:
    batch_size = min(batch_size, num_samples)
    counter = SampleCounter(num_samples, 1, None)
    for position in range(0, steps * batch_size, batch_size):
        positions = range(position, position + batch_size)
        unusable = data.draw(st.sets(st.sampled_from(positions), max_size=3))
        skips = [bad(p // num_samples, str(p % num_samples), f"reason {p % 3}") for p in sorted(unusable)]
        counter.add(position, batch(batch_size, *skips))
    epochs = counter.summary()["epochs"]
    assert sum(epoch["complete"] for epoch in epochs) == steps * batch_size // num_samples
    for epoch in epochs:
        total = epoch["consumed"] + sum(epoch["skipped"].values())
        assert (total == num_samples) == epoch["complete"]
        assert epoch["substitutes"] == sum(epoch["skipped"].values())


def test_each_skip_is_one_line_with_its_reason(tmp_path: Path) -> None:
    counter = SampleCounter(10, 1, tmp_path / "skipped.jsonl")
    counter.add(0, batch(5, Skip(0, "a.jpg", "too thin", "1 × 5000")))
    assert json.loads((tmp_path / "skipped.jsonl").read_text()) == {
        "epoch": 0,
        "id": "a.jpg",
        "reason": "too thin",
        "detail": "1 × 5000",
    }


def test_too_many_skips_are_an_error_with_reasons_and_the_flag(tmp_path: Path) -> None:
    counter = SampleCounter(100, 0.02, tmp_path / "skipped.jsonl")
    counter.add(0, batch(10, bad(0, "a", "empty caption"), bad(0, "b")))
    with pytest.raises(DataError) as error:
        counter.add(10, batch(10, Skip(0, "c", "truncated image", "12 bytes missing")))
    message = str(error.value)
    assert "3 of 100 samples cannot be used in epoch 0, more than the 2.00% allowed" in message
    assert "2 truncated image, 1 empty caption" in message
    assert "a (empty caption); b (truncated image); c (truncated image: 12 bytes missing)" in message
    assert "skipped.jsonl" in message
    assert "--data-options.max-skip-rate" in message
    assert len(lines(tmp_path / "skipped.jsonl")) == 3


def test_the_skip_rate_is_checked_per_epoch() -> None:
    counter = SampleCounter(100, 0.01, None)
    for epoch in range(5):
        counter.add(100 * epoch, batch(100, bad(epoch, "a")))
    with pytest.raises(DataError, match="in epoch 5"):
        counter.add(500, batch(100, bad(5, "a"), bad(5, "b")))


def test_a_skip_rate_of_zero_allows_no_skip_and_of_one_all() -> None:
    SampleCounter(2, 1, None).add(0, batch(2, bad(0, "a"), bad(0, "b")))
    with pytest.raises(DataError):
        SampleCounter(1000, 0, None).add(0, batch(2, bad(0, "a")))


@given(
    skips=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    saved=st.integers(0, 12),
    killed=st.integers(0, 12),
    partial_line=st.booleans(),
)
def test_a_killed_and_resumed_run_has_the_same_counts(tmp_path: Path, skips, saved, killed, partial_line) -> None:
    """Batches of 4 after the last checkpoint are repeated; no (epoch, ID) is listed twice."""
    saved, killed = sorted(min(number, len(skips)) for number in (saved, killed))

    def play(counter: SampleCounter, steps: range) -> SampleCounter:
        for step in steps:
            counter.add(step * 4, batch(4, *(bad(step * 4 // 10, f"{step}-{i}") for i in range(skips[step]))))
        return counter

    paths = [tmp_path / name for name in ("uninterrupted.jsonl", "resumed.jsonl")]
    for path in paths:
        path.unlink(missing_ok=True)
    uninterrupted = play(SampleCounter(10, 1, paths[0]), range(len(skips)))
    killed_counter = play(SampleCounter(10, 1, paths[1]), range(saved))
    state = json.loads(json.dumps(killed_counter.state_dict()))
    play(killed_counter, range(saved, killed))
    if partial_line and killed > saved:
        with paths[1].open("ab") as file:
            file.write(b'{"epoch": 0, "i')
    resumed_counter = SampleCounter(10, 1, paths[1])
    resumed_counter.load_state_dict(state)
    play(resumed_counter, range(saved, len(skips)))
    assert resumed_counter.summary() == uninterrupted.summary()
    if saved < len(skips):
        assert lines(paths[1]) == lines(paths[0])
        assert len(set(lines(paths[1]))) == sum(skips)


def test_a_run_restarted_before_its_first_checkpoint_lists_no_skip_twice(tmp_path: Path) -> None:
    for _ in range(2):
        SampleCounter(10, 1, tmp_path / "skipped.jsonl").add(0, batch(5, bad(0, "a")))
    assert lines(tmp_path / "skipped.jsonl") == [(0, "a")]


def test_a_lost_file_does_not_stop_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "skipped.jsonl"
    counter = SampleCounter(10, 1, path)
    counter.add(0, batch(5, bad(0, "a")))
    state = counter.state_dict()
    path.unlink()
    resumed = SampleCounter(10, 1, path)
    resumed.load_state_dict(state)
    resumed.add(5, batch(5, bad(0, "b")))
    assert lines(path) == [(0, "b")]
    assert resumed.summary()["epochs"][0]["skipped"] == {"truncated image": 2}
