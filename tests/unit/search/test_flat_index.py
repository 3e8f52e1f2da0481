"""Exact search gives what float64 arithmetic over all rows gives, ties in the order of the store."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zebra.search import flat_index as module
from zebra.search.flat_index import FlatIndex


def brute(vectors_NE, query_E, k, allowed_N=None):
    """Score every row by itself in float64, and sort stably."""
    rows_NE, query = vectors_NE.astype(np.float64), query_E.astype(np.float64)
    lengths_N = np.sqrt((rows_NE * rows_NE).sum(axis=1))
    scores_N = (rows_NE * (query / np.linalg.norm(query))).sum(axis=1) / np.maximum(lengths_N, 1e-30)
    order = np.argsort(-scores_N, kind="stable")
    if allowed_N is not None:
        order = order[allowed_N[order]]
    return order[:k], scores_N[order[:k]].clip(-1, 1)


def same(found, expected):
    (places_K,), (scores_K,) = found
    assert places_K.tolist() == expected[0].tolist()
    assert scores_K.tolist() == expected[1].tolist()


def units(seed, rows, width, dtype=np.float16):
    vectors = np.random.default_rng(seed).standard_normal((rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)


@st.composite
def stores(draw):
    """Rows in clusters so tight that float16 cannot tell many of them apart, with exact duplicates among them."""
    dice = np.random.default_rng(draw(st.integers(0, 2**32)))
    width = draw(st.sampled_from([1, 2, 7, 16, 64]))
    rows = draw(st.integers(1, 300))
    centres = dice.standard_normal((draw(st.integers(1, 5)), width))
    spread = draw(st.sampled_from([0.0, 1e-4, 1e-3, 1e-2, 1.0]))
    vectors = centres[dice.integers(0, len(centres), rows)] + spread * dice.standard_normal((rows, width))
    vectors[dice.integers(0, rows, rows // 3)] = vectors[dice.integers(0, rows)]
    if draw(st.booleans()):
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    near = centres[0] + draw(st.sampled_from([0.0, 0.01, 1.0])) * dice.standard_normal(width)
    return vectors.astype(dtype), near.astype(np.float32) + np.float32(1e-6), dice.random(rows)


@settings(max_examples=300, deadline=None)
@given(
    stores(),
    st.integers(1, 40),
    st.sampled_from([None, 0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([13, 64, 65_536]),
)
def test_the_best_rows_are_those_of_float64_arithmetic(store, k, share, block):
    vectors_NE, query_E, chance_N = store
    allowed_N = None if share is None else chance_N < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ROWS", block)
        found = FlatIndex.from_vectors(vectors_NE).search(query_E[None], k, allowed_N)
    same(found, brute(vectors_NE, query_E, k, allowed_N))


@settings(max_examples=200, deadline=None)
@given(stores())
def test_the_error_of_a_coarse_score_is_within_its_bound(store):
    vectors_NE, query_E, _ = store
    exact = FlatIndex.from_vectors(vectors_NE)
    unit_E = query_E.astype(np.float64) / np.linalg.norm(query_E.astype(np.float64))
    coarse_N = np.concatenate(
        [
            (block.coarse_NE @ module.torch.from_numpy(unit_E).half()).double().numpy()
            for block in exact._blocks
        ]
    )
    true_N = exact._rescore(np.arange(len(exact)), unit_E)
    assert np.abs(coarse_N - true_N).max() <= exact._max_error


def test_the_bound_is_tight_enough_to_rescore_few_rows():
    vectors_NE = units(0, 20_000, 512)
    query_E = units(1, 1, 512)[0].astype(np.float64)
    exact = FlatIndex.from_vectors(vectors_NE)
    assert exact._max_error < 1.5e-3
    assert len(exact._find_candidates(query_E, 10, None)) < 40


def test_rows_that_are_added_are_found_and_the_others_stay():
    vectors_NE = units(0, 500, 16)
    grown = FlatIndex.from_vectors(vectors_NE[:100])
    for first in range(100, 500, 130):
        before = grown
        grown = grown.with_vectors(vectors_NE[first : first + 130])
        assert len(before) == first
    assert len(grown) == 500
    same(grown.search(units(2, 1, 16).astype(np.float32), 20), brute(vectors_NE, units(2, 1, 16)[0], 20))


def test_adding_copies_no_more_than_the_last_block(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", 64)
    first = FlatIndex.from_vectors(units(0, 150, 16))
    grown = first.with_vectors(units(1, 10, 16))
    assert [block.vectors_NE.data_ptr() for block in grown._blocks[:2]] == [
        block.vectors_NE.data_ptr() for block in first._blocks[:2]
    ]
    assert [len(block.vectors_NE) for block in grown._blocks] == [64, 64, 32]


def test_several_queries_are_answered_each_for_itself():
    exact = FlatIndex.from_vectors(units(0, 200, 16))
    queries_QE = units(3, 4, 16).astype(np.float32)
    places_QK, scores_QK = exact.search(queries_QE, 5)
    for row, query_E in enumerate(queries_QE):
        (places_K,), (scores_K,) = exact.search(query_E[None], 5)
        assert (places_QK[row] == places_K).all()
        assert (scores_QK[row] == scores_K).all()


def test_an_empty_store_and_a_mask_that_lets_nothing_through_give_nothing():
    nothing = FlatIndex.from_vectors(np.empty((0, 8), np.float16))
    assert nothing.search(np.ones((1, 8), np.float32), 3)[0].shape == (1, 0)
    exact = FlatIndex.from_vectors(units(0, 10, 8))
    assert exact.search(np.ones((1, 8), np.float32), 3, np.zeros(10, bool))[0].shape == (1, 0)
    assert len(nothing.with_vectors(units(0, 3, 8))) == 3


def test_vectors_of_any_length_are_compared_by_their_angle_and_zeros_score_nothing():
    vectors_NE = (units(0, 50, 8, np.float32).T * np.geomspace(1e-3, 1e4, 50, dtype=np.float32)).T
    vectors_NE[7] = 0
    exact = FlatIndex.from_vectors(vectors_NE)
    query_E = units(1, 1, 8)[0].astype(np.float32)
    same(exact.search(query_E[None], 50), brute(vectors_NE, query_E, 50))


def test_memory_is_that_of_the_store_and_half_of_it_more_for_float32():
    assert FlatIndex.from_vectors(units(0, 100, 16, np.float16)).num_bytes == 100 * 16 * 2
    assert FlatIndex.from_vectors(units(0, 100, 16, np.float32)).num_bytes == 100 * 16 * (4 + 2)


def test_vectors_come_back_at_unit_length_in_the_order_asked_for():
    vectors_NE = units(0, 100, 16)
    found = FlatIndex.from_vectors(vectors_NE).unit_vectors(np.array([70, 3, 70]))
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert np.allclose(found, vectors_NE[[70, 3, 70]], atol=1e-3)
