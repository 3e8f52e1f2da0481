"""Exact search equals float64 scores of all rows, with ties in store order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.search import flat_index as module
from zebra.search.flat_index import FlatIndex


def search_by_brute_force(vectors_NE, query_E, k, mask_N=None):
    """Score each row in float64, and sort stably."""
    rows_NE, query = vectors_NE.astype(np.float64), query_E.astype(np.float64)
    norms_N = np.sqrt((rows_NE * rows_NE).sum(axis=1))
    scores_N = (rows_NE * (query / np.linalg.norm(query))).sum(axis=1) / np.maximum(norms_N, 1e-30)
    order = np.argsort(-scores_N, kind="stable")
    if mask_N is not None:
        order = order[mask_N[order]]
    return order[:k], scores_N[order[:k]].clip(-1, 1)


def assert_same(result, expected):
    (positions_K,), (scores_K,) = result
    assert positions_K.tolist() == expected[0].tolist()
    assert scores_K.tolist() == expected[1].tolist()


def draw_unit_vectors(seed, num_rows, width, dtype=np.float16):
    vectors = np.random.default_rng(seed).standard_normal((num_rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)


@st.composite
def stores(draw):
    """Draw rows in clusters that float16 cannot separate, with exact duplicates among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    width = draw(st.sampled_from([1, 2, 7, 16, 64]))
    rows = draw(st.integers(1, 300))
    centers = rng.standard_normal((draw(st.integers(1, 5)), width))
    spread = draw(st.sampled_from([0.0, 1e-4, 1e-3, 1e-2, 1.0]))
    vectors = centers[rng.integers(0, len(centers), rows)] + spread * rng.standard_normal((rows, width))
    vectors[rng.integers(0, rows, rows // 3)] = vectors[rng.integers(0, rows)]
    if draw(st.booleans()):
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    query = centers[0] + draw(st.sampled_from([0.0, 0.01, 1.0])) * rng.standard_normal(width)
    return vectors.astype(dtype), query.astype(np.float32) + np.float32(1e-6), rng.random(rows)


SMALL_AND_LARGE = st.sampled_from([module.MAX_FLOAT32_BYTES, 0])
"""Sizes of a small store: every one, which NumPy scores in float32, and none, so that torch scores all in float16."""


@given(
    stores(),
    st.integers(1, 40),
    st.sampled_from([None, 0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([13, 64, 65_536]),
    SMALL_AND_LARGE,
)
def test_the_best_rows_equal_those_of_float64_arithmetic(store, k, share, block, max_small_bytes):
    vectors_NE, query_E, random_N = store
    mask_N = None if share is None else random_N < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ROWS", block)
        patch.setattr(module, "MAX_FLOAT32_BYTES", max_small_bytes)
        result = FlatIndex.from_vectors(vectors_NE).search(query_E[None], k, mask_N)
    assert_same(result, search_by_brute_force(vectors_NE, query_E, k, mask_N))


@given(stores(), SMALL_AND_LARGE)
def test_the_error_of_a_coarse_score_is_within_its_bound(store, max_small_bytes):
    vectors_NE, query_E, _ = store
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_FLOAT32_BYTES", max_small_bytes)
        index = FlatIndex.from_vectors(vectors_NE)
    assert {block.coarse_NE.dtype for block in index._blocks} == {
        np.dtype(np.float32 if max_small_bytes else np.float16)
    }
    unit_E = query_E.astype(np.float64) / np.linalg.norm(query_E.astype(np.float64))
    coarse_N = np.concatenate([module._dot(block.coarse_NE, unit_E) for block in index._blocks]).astype(np.float64)
    true_N = index._rescore(np.arange(len(index)), unit_E)
    assert np.abs(coarse_N - true_N).max() <= index._max_error


def test_the_bound_is_tight_enough_to_rescore_few_rows(monkeypatch):
    monkeypatch.setattr(module, "MAX_FLOAT32_BYTES", 0)
    vectors_NE = draw_unit_vectors(0, 20_000, 512)
    query_E = draw_unit_vectors(1, 1, 512)[0].astype(np.float64)
    index = FlatIndex.from_vectors(vectors_NE)
    assert index._max_error < 1.5e-3
    assert len(index._find_candidates(query_E, 10, None)) < 40


def test_appended_rows_are_found_and_the_others_stay():
    vectors_NE = draw_unit_vectors(0, 500, 16)
    grown = FlatIndex.from_vectors(vectors_NE[:100])
    for first in range(100, 500, 130):
        before = grown
        grown = grown.with_vectors(vectors_NE[first : first + 130])
        assert len(before) == first
    assert len(grown) == 500
    assert_same(
        grown.search(draw_unit_vectors(2, 1, 16).astype(np.float32), 20),
        search_by_brute_force(vectors_NE, draw_unit_vectors(2, 1, 16)[0], 20),
    )


def test_appending_copies_only_the_last_block(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", 64)
    first = FlatIndex.from_vectors(draw_unit_vectors(0, 150, 16))
    grown = first.with_vectors(draw_unit_vectors(1, 10, 16))
    assert [block.vectors_NE.ctypes.data for block in grown._blocks[:2]] == [
        block.vectors_NE.ctypes.data for block in first._blocks[:2]
    ]
    assert [len(block.vectors_NE) for block in grown._blocks] == [64, 64, 32]


def test_several_queries_give_the_results_of_single_ones():
    index = FlatIndex.from_vectors(draw_unit_vectors(0, 200, 16))
    queries_QE = draw_unit_vectors(3, 4, 16).astype(np.float32)
    positions_QK, scores_QK = index.search(queries_QE, 5)
    for row, query_E in enumerate(queries_QE):
        (positions_K,), (scores_K,) = index.search(query_E[None], 5)
        assert (positions_QK[row] == positions_K).all()
        assert (scores_QK[row] == scores_K).all()


def test_an_empty_store_and_an_empty_mask_give_no_rows():
    empty = FlatIndex.from_vectors(np.empty((0, 8), np.float16))
    assert empty.search(np.ones((1, 8), np.float32), 3)[0].shape == (1, 0)
    index = FlatIndex.from_vectors(draw_unit_vectors(0, 10, 8))
    assert index.search(np.ones((1, 8), np.float32), 3, np.zeros(10, bool))[0].shape == (1, 0)
    assert len(empty.with_vectors(draw_unit_vectors(0, 3, 8))) == 3


def test_vectors_of_any_norm_are_compared_by_cosine_and_zero_vectors_score_zero():
    vectors_NE = (draw_unit_vectors(0, 50, 8, np.float32).T * np.geomspace(1e-3, 1e4, 50, dtype=np.float32)).T
    vectors_NE[7] = 0
    index = FlatIndex.from_vectors(vectors_NE)
    query_E = draw_unit_vectors(1, 1, 8)[0].astype(np.float32)
    assert_same(index.search(query_E[None], 50), search_by_brute_force(vectors_NE, query_E, 50))


def test_a_store_that_grows_large_is_scored_in_float16_from_then_on(monkeypatch):
    monkeypatch.setattr(module, "MAX_FLOAT32_BYTES", 150 * 16 * 4)
    monkeypatch.setattr(module, "BLOCK_ROWS", 100)
    vectors_NE = draw_unit_vectors(0, 250, 16)
    grown = FlatIndex.from_vectors(vectors_NE[:150]).with_vectors(vectors_NE[150:])
    assert [block.coarse_NE.dtype.name for block in grown._blocks] == ["float32", "float16", "float16"]
    query_E = draw_unit_vectors(2, 1, 16)[0]
    assert_same(grown.search(query_E[None].astype(np.float32), 20), search_by_brute_force(vectors_NE, query_E, 20))


def test_memory_of_a_small_store_is_that_of_float32_as_well():
    assert FlatIndex.from_vectors(draw_unit_vectors(0, 100, 16, np.float16)).num_bytes == 100 * 16 * (2 + 4)
    assert FlatIndex.from_vectors(draw_unit_vectors(0, 100, 16, np.float32)).num_bytes == 100 * 16 * 4


def test_memory_of_a_large_store_is_that_of_the_vectors_and_half_of_it_more_for_float32(monkeypatch):
    monkeypatch.setattr(module, "MAX_FLOAT32_BYTES", 0)
    assert FlatIndex.from_vectors(draw_unit_vectors(0, 100, 16, np.float16)).num_bytes == 100 * 16 * 2
    assert FlatIndex.from_vectors(draw_unit_vectors(0, 100, 16, np.float32)).num_bytes == 100 * 16 * (4 + 2)


def test_vectors_are_returned_at_unit_length_in_the_requested_order():
    vectors_NE = draw_unit_vectors(0, 100, 16)
    vectors = FlatIndex.from_vectors(vectors_NE).unit_vectors(np.array([70, 3, 70]))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.allclose(vectors, vectors_NE[[70, 3, 70]], atol=1e-3)
