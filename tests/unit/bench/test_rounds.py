"""Rounds of tasks that take turns, the workload that fits a time, and the count of operations."""

import time
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from zebra.bench import rounds
from zebra.bench.flops import count_flops
from zebra.bench.rounds import MAX_ROUNDS, MIN_ROUNDS, run_rounds


def test_tasks_take_turns_in_alternating_order_for_at_least_two_rounds():
    calls = []
    result = run_rounds({name: partial(calls.append, name) for name in "abc"}, seconds=0)
    assert calls == ["a", "b", "c", "c", "b", "a"]
    assert result.number == MIN_ROUNDS == 2
    assert (result.seconds("a", by_cpu_time=False) > 0).all()


def test_more_time_gives_more_rounds_up_to_a_limit():
    assert run_rounds({"a": lambda: None}, seconds=1e9).number == MAX_ROUNDS


def test_rounds_end_before_the_time_is_exceeded(monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: next(now) * 1.0)
    # A round takes four ticks, one of them for the clock of its end; a fourth one would end after the limit.
    assert run_rounds({"a": lambda: None}, seconds=10).number == 3


def test_waiting_is_the_median_of_the_rounds(monkeypatch):
    fractions = iter([0.9, 0.1, 0.2, 0.15, 0.12, 0.11, 0.1, 0.1, 0.1])
    monkeypatch.setattr(rounds.ThreadWaiting, "largest_fraction", lambda _self: next(fractions))
    assert run_rounds({"a": lambda: None}, seconds=1e9).waiting == pytest.approx(0.11)


@pytest.mark.parametrize(
    ("run", "operations"),
    [
        (lambda: torch.ones(3, 4) @ torch.ones(4, 5), 2 * 3 * 4 * 5),
        (lambda: F.linear(torch.ones(3, 4), torch.ones(5, 4), torch.ones(5)), 2 * 3 * 4 * 5),
        (lambda: F.conv2d(torch.ones(1, 2, 8, 8), torch.ones(3, 2, 4, 4), stride=4), 2 * 4 * 3 * 2 * 16),
        (lambda: F.scaled_dot_product_attention(*torch.ones(3, 1, 2, 5, 4).unbind()), 2 * 2 * 2 * 5 * 5 * 4),
        (lambda: torch.ones(2, 3, 4) @ torch.ones(4), 2 * 2 * 3 * 4),
        (lambda: F.linear(torch.ones(2, 3, 4), torch.ones(5, 4)), 2 * 2 * 3 * 4 * 5),
        (lambda: torch.ones(3).exp() + 1, 0),
    ],
)
def test_operations_of_products_are_counted_in_inference_mode_too(run, operations):
    assert count_flops(run) == operations
    with torch.inference_mode():
        assert count_flops(run) == operations
