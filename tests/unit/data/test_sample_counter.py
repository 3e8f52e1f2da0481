"""Consumed and skipped make up what was found, exactly, through crashes and resumes."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zebra.data.sample_counter import SampleCounter
from zebra.errors import DataError
from zebra.values import Batch, Skip


def batch(size: int, *skips: Skip) -> Batch:
    return Batch(torch.zeros(0), (), ("",) * size, skips)


def bad(epoch: int, id: str, reason: str = "truncated image") -> Skip:
    return Skip(epoch, id, reason, "")


def lines(path: Path) -> list[tuple[int, str]]:
    return [(row["epoch"], row["id"]) for row in map(json.loads, path.read_text().splitlines())]


def test_a_batch_that_spans_two_epochs_counts_for_both() -> None:
    ledger = SampleCounter(num_samples=5, max_skip_rate=1, skipped_path=None)
    ledger.add(0, batch(4))
    ledger.add(4, batch(4, bad(0, "a"), bad(1, "a"), bad(1, "b", "empty caption")))
    assert ledger.summary() == {
        "found": 5,
        "epochs": [
            {
                "epoch": 0,
                "consumed": 4,
                "skipped": {"truncated image": 1},
                "substitutes": 1,
                "complete": True,
            },
            {
                "epoch": 1,
                "consumed": 1,
                "skipped": {"truncated image": 1, "empty caption": 1},
                "substitutes": 2,
                "complete": False,
            },
        ],
    }


@given(found=st.integers(1, 60), batch_size=st.integers(1, 60), steps=st.integers(1, 40), data=st.data())
def test_every_complete_epoch_adds_up(found: int, batch_size: int, steps: int, data: st.DataObject) -> None:
    batch_size = min(batch_size, found)
    ledger = SampleCounter(found, 1, None)
    for position in range(0, steps * batch_size, batch_size):
        positions = range(position, position + batch_size)
        unusable = data.draw(st.sets(st.sampled_from(positions), max_size=3))
        skips = [bad(p // found, str(p % found), f"reason {p % 3}") for p in sorted(unusable)]
        ledger.add(position, batch(batch_size, *skips))
    epochs = ledger.summary()["epochs"]
    assert sum(epoch["complete"] for epoch in epochs) == steps * batch_size // found
    for epoch in epochs:
        total = epoch["consumed"] + sum(epoch["skipped"].values())
        assert (total == found) == epoch["complete"]
        assert epoch["substitutes"] == sum(epoch["skipped"].values())


def test_each_skip_is_a_line_with_its_reason(tmp_path: Path) -> None:
    ledger = SampleCounter(10, 1, tmp_path / "skipped.jsonl")
    ledger.add(0, batch(5, Skip(0, "a.jpg", "too thin", "1 × 5000")))
    assert json.loads((tmp_path / "skipped.jsonl").read_text()) == {
        "epoch": 0,
        "id": "a.jpg",
        "reason": "too thin",
        "detail": "1 × 5000",
    }


def test_too_many_skips_stop_the_run_with_the_top_reason_first_and_the_flag(tmp_path: Path) -> None:
    ledger = SampleCounter(100, 0.02, tmp_path / "skipped.jsonl")
    ledger.add(0, batch(10, bad(0, "a", "empty caption"), bad(0, "b")))
    with pytest.raises(DataError) as caught:
        ledger.add(10, batch(10, Skip(0, "c", "truncated image", "12 bytes missing")))
    message = str(caught.value)
    assert "3 of 100 samples are unusable in epoch 0, more than the 2.00% allowed" in message
    assert "2 truncated image, 1 empty caption" in message
    assert "a (empty caption); b (truncated image); c (truncated image: 12 bytes missing)" in message
    assert "skipped.jsonl" in message
    assert "--data-options.max-skip-rate" in message
    assert len(lines(tmp_path / "skipped.jsonl")) == 3


def test_the_rate_counts_each_epoch_by_itself() -> None:
    ledger = SampleCounter(100, 0.01, None)
    for epoch in range(5):
        ledger.add(100 * epoch, batch(100, bad(epoch, "a")))
    with pytest.raises(DataError, match="in epoch 5"):
        ledger.add(500, batch(100, bad(5, "a"), bad(5, "b")))


def test_a_rate_of_zero_allows_none_and_of_one_all() -> None:
    SampleCounter(2, 1, None).add(0, batch(2, bad(0, "a"), bad(0, "b")))
    with pytest.raises(DataError):
        SampleCounter(1000, 0, None).add(0, batch(2, bad(0, "a")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    skips=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    saved=st.integers(0, 12),
    killed=st.integers(0, 12),
    torn=st.booleans(),
)
def test_a_killed_and_resumed_run_leaves_the_same_account(tmp_path: Path, skips, saved, killed, torn) -> None:
    """Batches of 4 after the last checkpoint are replayed; no (epoch, id) is listed twice."""
    saved, killed = sorted(min(number, len(skips)) for number in (saved, killed))

    def play(ledger: SampleCounter, steps: range) -> SampleCounter:
        for step in steps:
            ledger.add(step * 4, batch(4, *(bad(step * 4 // 10, f"{step}-{i}") for i in range(skips[step]))))
        return ledger

    paths = [tmp_path / name for name in ("straight.jsonl", "resumed.jsonl")]
    for path in paths:
        path.unlink(missing_ok=True)
    straight = play(SampleCounter(10, 1, paths[0]), range(len(skips)))
    first = play(SampleCounter(10, 1, paths[1]), range(saved))
    state = json.loads(json.dumps(first.state_dict()))
    play(first, range(saved, killed))
    if torn and killed > saved:
        with paths[1].open("ab") as file:
            file.write(b'{"epoch": 0, "i')
    second = SampleCounter(10, 1, paths[1])
    second.load_state_dict(state)
    play(second, range(saved, len(skips)))
    assert second.summary() == straight.summary()
    if saved < len(skips):
        assert lines(paths[1]) == lines(paths[0])
        assert len(set(lines(paths[1]))) == sum(skips)


def test_a_run_that_starts_again_before_its_first_checkpoint_lists_nothing_twice(tmp_path: Path) -> None:
    for _ in range(2):
        SampleCounter(10, 1, tmp_path / "skipped.jsonl").add(0, batch(5, bad(0, "a")))
    assert lines(tmp_path / "skipped.jsonl") == [(0, "a")]


def test_a_lost_file_does_not_stop_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "skipped.jsonl"
    ledger = SampleCounter(10, 1, path)
    ledger.add(0, batch(5, bad(0, "a")))
    state = ledger.state_dict()
    path.unlink()
    again = SampleCounter(10, 1, path)
    again.load_state_dict(state)
    again.add(5, batch(5, bad(0, "b")))
    assert lines(path) == [(0, "b")]
    assert again.summary()["epochs"][0]["skipped"] == {"truncated image": 2}
