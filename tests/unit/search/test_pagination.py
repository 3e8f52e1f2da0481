"""Pages follow each other without a gap, and near duplicates stand behind the best of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zebra.errors import ConfigError
from zebra.search.pagination import MAX_HITS, PageRequest, RankedRows, build_page


def finder(vectors_NE, asked=None):
    """Return what finds the best of some rows for the first unit vector."""
    vectors_NE = vectors_NE / np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    order_N = np.argsort(-vectors_NE[:, 0], kind="stable")

    def nearest(count):
        if asked is not None:
            asked.append(count)
        best = order_N[:count]
        return RankedRows(
            vectors_NE[best, 0],
            lambda: vectors_NE[best].astype(np.float32),
            lambda numbers, columns: [
                {"id": str(best[number]), "columns": list(columns)} for number in numbers
            ],
        )

    return nearest, order_N, vectors_NE


def greedy(order_N, vectors_NE, fold):
    """Fold row by row, as one would by hand."""
    groups = []
    for row in order_N:
        for group in groups:
            if vectors_NE[row].astype(np.float32) @ vectors_NE[group[0]].astype(np.float32) >= fold:
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def clusters(seed, rows, kinds):
    dice = np.random.default_rng(seed)
    centres = dice.standard_normal((kinds, 6))
    return centres[dice.integers(0, kinds, rows)] + 0.05 * dice.standard_normal((rows, 6))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 200), st.integers(1, 30), st.integers(1, 7))
def test_pages_of_folded_hits_are_those_of_folding_by_hand(seed, rows, kinds, k):
    nearest, order_N, vectors_NE = finder(clusters(seed, rows, kinds))
    groups = greedy(order_N, vectors_NE, 0.9)
    offset, seen = 0, []
    while True:
        hits, more = build_page(nearest, PageRequest(k=k, offset=offset, dedup=0.9), [])
        seen += [hit.id for hit in hits]
        for hit, group in zip(hits, groups[offset:], strict=False):
            assert list(hit.duplicates) == [str(row) for row in group[1 : 1 + len(hit.duplicates)]]
        offset += k
        assert more == (len(groups) > offset)
        if not more:
            break
    assert seen == [str(group[0]) for group in groups]


def test_a_page_is_filled_however_many_duplicates_stand_before_its_end():
    vectors = np.vstack([np.tile([1.0, 0.1], (500, 1)), [[1.0, 0.5], [1.0, 1.0], [1.0, 2.0]]])
    asked = []
    nearest, _, _ = finder(vectors, asked)
    hits, more = build_page(nearest, PageRequest(k=3, dedup=0.99), [])
    assert [len(hit.duplicates) for hit in hits] == [499, 0, 0]
    assert more
    assert asked == [4, 16, 64, 256, 1024]


def test_only_as_many_rows_are_looked_at_as_a_page_needs():
    asked = []
    nearest, order_N, _ = finder(clusters(0, 100, 5), asked)
    hits, more = build_page(nearest, PageRequest(k=5, offset=10, exclude=(str(0), "none")), [])
    assert asked == [18]
    expected = [str(row) for row in order_N if row != 0]
    assert [hit.id for hit in hits] == expected[10:15]
    assert more


def test_hits_below_the_least_score_are_left_out():
    nearest, _, _ = finder(np.array([[1.0, 0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]))
    hits, more = build_page(nearest, PageRequest(k=2, min_score=0.5), [])
    assert [hit.id for hit in hits] == ["0", "1"]
    assert not more
    assert build_page(nearest, PageRequest(k=2, offset=2, min_score=0.5), []) == ((), False)
    assert build_page(nearest, PageRequest(k=2, min_score=0.5, dedup=0.5), [])[0][0].duplicates == ("1",)


def test_a_hit_carries_its_columns_and_always_its_id():
    nearest, _, _ = finder(np.eye(3))
    (hit,), _ = build_page(nearest, PageRequest(k=1), ["caption"])
    assert hit.row["columns"] == ["id", "caption"]
    assert hit.score == 1.0


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"k": 0}, "at least one hit"),
        ({"offset": -1}, "begins at 0"),
        ({"k": 1, "offset": MAX_HITS}, "is beyond"),
        ({"min_score": 1.5}, "min_score is a cosine"),
        ({"dedup": float("nan")}, "dedup is a cosine"),
    ],
)
def test_what_no_page_can_be_is_refused(wish, said):
    with pytest.raises(ConfigError, match=said):
        PageRequest(**wish)
