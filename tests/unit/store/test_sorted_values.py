"""Sorted values answer as a sorted list does, and stay in few arrays."""

from bisect import bisect_left
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zebra.store.sorted_values import MERGE_RATIO, SortedValues

VALUES = st.one_of(st.integers(0, 12), st.integers(2**64 - 12, 2**64 - 1), st.integers(0, 2**64 - 1))


def as_array(values):
    return np.array(values, np.uint64)


@given(st.lists(st.lists(VALUES, max_size=9), max_size=9), st.lists(st.tuples(VALUES, VALUES).map(sorted), max_size=5))
def test_answers_equal_those_of_a_list(parts, intervals):
    values = SortedValues(as_array(parts[0] if parts else []))
    for part in parts[1:]:
        values.add(as_array(part))
    expected = sorted(value for part in parts for value in part)
    low, high = as_array([low for low, _ in intervals]), as_array([high for _, high in intervals])
    assert len(values) == len(expected)
    assert values.contains(low).tolist() == [bound in expected for bound in low.tolist()]
    assert values.count_below(low).tolist() == [bisect_left(expected, bound) for bound in low.tolist()]
    members = [
        (index, value) for index, (low, high) in enumerate(intervals) for value in expected if low <= value <= high
    ]
    index_M, value_M = values.find_between(low, high)
    assert list(zip(index_M.tolist(), value_M.tolist(), strict=True)) == members
    for index, (low, high) in enumerate(intervals):
        assert sorted(values.iter_between(low, high)) == [value for at, value in members if at == index]


def test_many_small_additions_leave_few_arrays():
    values = SortedValues()
    for start in range(0, 3000, 3):
        values.add(np.arange(start, start + 3, dtype=np.uint64))
    sizes = [len(array) for array in values._arrays]
    assert sum(sizes) == 3000
    assert all(size >= MERGE_RATIO * next_size for size, next_size in pairwise(sizes))
