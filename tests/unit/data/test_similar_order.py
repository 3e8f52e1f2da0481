"""Similar samples are close in the order of an epoch, copies of one sample are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.data.sampling import epoch_permutation, samples_at
from zebra.data.similar_order import SimilarOrder


@given(
    samples=st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 5)), min_size=1, max_size=60),
    chunk_size=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_each_epoch_visits_every_sample_once(samples, chunk_size, seed):
    cluster_N, copy_of_N = np.array(samples).T
    order = SimilarOrder(cluster_N.astype(np.int32), copy_of_N, chunk_size)
    for epoch in range(2):
        assert sorted(order(seed, epoch, len(samples)).tolist()) == list(range(len(samples)))


def test_chunks_have_samples_of_one_cluster_and_no_copies():
    cluster_N = np.repeat(np.arange(4, dtype=np.int32), 16)
    copy_of_N = np.arange(64) % 8 + 8 * (np.arange(64) // 16)  # each sample has one copy, in its cluster
    for epoch in range(5):
        chunks_C8 = SimilarOrder(cluster_N, copy_of_N, 8)(0, epoch, 64).reshape(8, 8)
        for chunk_8 in chunks_C8:
            assert len(set(cluster_N[chunk_8])) == 1
            assert len(set(copy_of_N[chunk_8])) == 8


def test_chunks_and_their_members_change_from_epoch_to_epoch_and_with_the_seed():
    order = SimilarOrder(np.repeat(np.arange(4, dtype=np.int32), 16), np.arange(64), 8)
    chunks = {
        frozenset(chunk)
        for seed in range(2)
        for epoch in range(2)
        for chunk in order(seed, epoch, 64).reshape(8, 8).tolist()
    }
    assert len(chunks) == 32
    again = SimilarOrder(order.cluster_N, order.copy_of_N, 8)
    assert np.array_equal(order(1, 3, 64), again(1, 3, 64))


def test_samples_without_a_cluster_are_spread_at_random():
    order = SimilarOrder(np.full(1000, -1, np.int32), np.arange(1000), 8)(0, 0, 1000)
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1
    assert (np.diff(order) == 1).sum() < 10


def test_the_order_is_read_only():
    order = SimilarOrder(np.zeros(4, np.int32), np.arange(4), 2)
    with pytest.raises(ValueError, match="read-only"):
        order(0, 0, 4)[0] = 3


def test_positions_follow_the_given_order_and_can_be_split_anywhere():
    order = SimilarOrder(np.arange(10, dtype=np.int32) % 3, np.arange(10), 2)
    full = samples_at(0, 25, seed=4, num_samples=10, epoch_order=order)
    assert full[10:20, 1].tolist() == order(4, 1, 10).tolist() != epoch_permutation(4, 1, 10).tolist()
    parts = [samples_at(start, count, seed=4, num_samples=10, epoch_order=order) for start, count in ((0, 7), (7, 18))]
    assert np.array_equal(np.concatenate(parts), full)
