"""Pages have no gaps, and near duplicates are listed under their best hit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.errors import ConfigError
from zebra.search.pagination import MAX_HITS, PageRequest, RankedRows, build_page


def make_search(vectors_NE, counts=None):
    """Return a search for the first unit vector, the rows' order, and their unit vectors."""
    vectors_NE = vectors_NE / np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    order_N = np.argsort(-vectors_NE[:, 0], kind="stable")

    def search(count):
        if counts is not None:
            counts.append(count)
        best = order_N[:count]
        return RankedRows(
            vectors_NE[best, 0],
            lambda: vectors_NE[best].astype(np.float32),
            lambda ranks, columns: [{"id": str(best[rank]), "columns": list(columns)} for rank in ranks],
        )

    return search, order_N, vectors_NE


def group_greedily(order_N, vectors_NE, min_cosine):
    """Group row by row, as a reference."""
    groups = []
    for row in order_N:
        for group in groups:
            if vectors_NE[row].astype(np.float32) @ vectors_NE[group[0]].astype(np.float32) >= min_cosine:
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def draw_clusters(seed, num_rows, num_clusters):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((num_clusters, 6))
    return centers[rng.integers(0, num_clusters, num_rows)] + 0.05 * rng.standard_normal((num_rows, 6))


@given(st.integers(0, 10**6), st.integers(1, 200), st.integers(1, 30), st.integers(1, 7))
def test_pages_of_grouped_hits_equal_the_reference(seed, num_rows, num_clusters, k):
    search, order_N, vectors_NE = make_search(draw_clusters(seed, num_rows, num_clusters))
    groups = group_greedily(order_N, vectors_NE, 0.9)
    offset, hit_ids = 0, []
    while True:
        hits, has_more = build_page(search, PageRequest(k=k, offset=offset, dedup=0.9), [])
        hit_ids += [hit.id for hit in hits]
        for hit, group in zip(hits, groups[offset:], strict=False):
            assert list(hit.duplicates) == [str(row) for row in group[1 : 1 + len(hit.duplicates)]]
        offset += k
        assert has_more == (len(groups) > offset)
        if not has_more:
            break
    assert hit_ids == [str(group[0]) for group in groups]


def test_a_page_is_filled_despite_many_duplicates():
    vectors = np.vstack([np.tile([1.0, 0.1], (500, 1)), [[1.0, 0.5], [1.0, 1.0], [1.0, 2.0]]])
    counts = []
    search, _, _ = make_search(vectors, counts)
    hits, has_more = build_page(search, PageRequest(k=3, dedup=0.99), [])
    assert [len(hit.duplicates) for hit in hits] == [499, 0, 0]
    assert has_more
    assert counts == [4, 16, 64, 256, 1024]


def test_only_as_many_rows_are_searched_as_a_page_needs():
    counts = []
    search, order_N, _ = make_search(draw_clusters(0, 100, 5), counts)
    hits, has_more = build_page(search, PageRequest(k=5, offset=10, exclude=(str(0), "none")), [])
    assert counts == [18]
    expected = [str(row) for row in order_N if row != 0]
    assert [hit.id for hit in hits] == expected[10:15]
    assert has_more


def test_hits_below_the_minimum_score_are_excluded():
    search, _, _ = make_search(np.array([[1.0, 0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]))
    hits, has_more = build_page(search, PageRequest(k=2, min_score=0.5), [])
    assert [hit.id for hit in hits] == ["0", "1"]
    assert not has_more
    assert build_page(search, PageRequest(k=2, offset=2, min_score=0.5), []) == ((), False)
    assert build_page(search, PageRequest(k=2, min_score=0.5, dedup=0.5), [])[0][0].duplicates == ("1",)


def test_a_hit_has_its_columns_and_always_its_id():
    search, _, _ = make_search(np.eye(3))
    (hit,), _ = build_page(search, PageRequest(k=1), ["caption"])
    assert hit.row["columns"] == ["id", "caption"]
    assert hit.score == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"offset": -1}, "offset at least 0"),
        ({"k": 1, "offset": MAX_HITS}, r"offset \+ k must be at most"),
        ({"min_score": 1.5}, "min_score must be a cosine"),
        ({"dedup": float("nan")}, "dedup must be a cosine"),
    ],
)
def test_invalid_page_requests_are_rejected(options, message):
    with pytest.raises(ConfigError, match=message):
        PageRequest(**options)
