"""Learning rate schedule: warm-up and cosine decay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.train.schedule import learning_rate


def test_the_peak_is_reached_at_the_last_warmup_step():
    assert learning_rate(9, peak_lr=2.0, warmup_steps=10, total_steps=100) == 2.0
    assert learning_rate(0, peak_lr=2.0, warmup_steps=10, total_steps=100) == pytest.approx(0.2)


def test_the_middle_of_the_cosine_is_half_the_peak():
    assert learning_rate(55, peak_lr=2.0, warmup_steps=10, total_steps=100) == pytest.approx(1.0)


@given(st.integers(1, 500), st.integers(0, 600))
def test_the_rate_is_positive_up_to_the_last_step_and_never_above_the_peak(steps, warmup):
    rates = [learning_rate(step, peak_lr=1.0, warmup_steps=warmup, total_steps=steps) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    peak_index = rates.index(max(rates))
    assert rates[peak_index:] == sorted(rates[peak_index:], reverse=True)


def constant(step, steps=100, warmup=10):
    return learning_rate(step, peak_lr=2.0, warmup_steps=warmup, total_steps=steps, schedule="constant-cooldown")


def test_a_constant_schedule_stays_at_the_peak_until_the_last_fifth_and_falls_to_near_0():
    assert {constant(step) for step in range(10, 80)} == {2.0}
    assert constant(80) < 2.0
    assert constant(99) < 0.02 * 2.0


def test_before_the_cooldown_the_rate_does_not_depend_on_the_length_of_the_run():
    assert [constant(step, steps=100) for step in range(80)] == [constant(step, steps=1000) for step in range(80)]


@given(st.integers(1, 500), st.integers(0, 600))
def test_every_rate_of_a_constant_schedule_is_positive_and_falls_after_the_peak(steps, warmup):
    rates = [constant(step, steps, warmup) for step in range(steps)]
    assert all(0 < rate <= 2 for rate in rates)
    peak_index = rates.index(max(rates))
    assert rates[peak_index:] == sorted(rates[peak_index:], reverse=True)
