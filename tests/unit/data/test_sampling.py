"""The order of training is a pure function that visits every sample once per epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.data.sampling import augmentation_rng, epoch_permutation, samples_at, substitute_index


@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 1000), num_samples=st.integers(1, 300))
def test_each_epoch_visits_every_sample_once(seed: int, epoch: int, num_samples: int) -> None:
    assert sorted(epoch_permutation(seed, epoch, num_samples).tolist()) == list(range(num_samples))


def test_seeds_and_epochs_have_different_orders() -> None:
    orders = {tuple(epoch_permutation(seed, epoch, 50).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_is_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        epoch_permutation(0, 0, 10)[0] = 3


def test_positions_continue_from_epoch_to_epoch() -> None:
    samples = samples_at(0, 21, seed=5, num_samples=7)
    assert samples[:, 0].tolist() == [0] * 7 + [1] * 7 + [2] * 7
    assert samples[7:14, 1].tolist() == epoch_permutation(5, 1, 7).tolist()


@given(start=st.integers(0, 100), count=st.integers(1, 40), rest=st.integers(1, 40), num_samples=st.integers(1, 30))
def test_the_order_can_be_split_anywhere(start: int, count: int, rest: int, num_samples: int) -> None:
    full = samples_at(start, count + rest, seed=0, num_samples=num_samples)
    parts = [
        samples_at(start, count, seed=0, num_samples=num_samples),
        samples_at(start + count, rest, seed=0, num_samples=num_samples),
    ]
    assert np.array_equal(np.concatenate(parts), full)


@given(seed=st.integers(0, 99), epoch=st.integers(0, 9), index=st.integers(0, 99), num_samples=st.integers(1, 50))
def test_substitutes_are_samples_of_the_source(seed: int, epoch: int, index: int, num_samples: int) -> None:
    assert 0 <= substitute_index(seed, epoch, index, 0, num_samples) < num_samples


def test_every_attempt_draws_another_substitute() -> None:
    assert len({substitute_index(0, 0, 0, attempt, 1000) for attempt in range(50)}) > 40


def test_every_random_stream_is_different() -> None:
    draws = {augmentation_rng(s, e, i).integers(2**60) for s in range(3) for e in range(3) for i in range(3)}
    draws |= {np.random.default_rng([s, e]).integers(2**60) for s in range(3) for e in range(3)}
    assert len(draws) == 36
