"""Queries are directions, and sums of them."""

import numpy as np
import pytest
import torch

from zebra.errors import ConfigError
from zebra.search.query import combine_vectors, normalize_query


def test_parts_count_by_their_weight_whatever_their_length():
    one = combine_vectors([([1.0, 0.0], 1.0), ([0.0, 1.0], 1.0)])
    assert np.allclose(one, combine_vectors([([5.0, 0.0], 1.0), (torch.tensor([0.0, 0.1]), 1.0)]))
    assert np.isclose(np.linalg.norm(one), 1)
    assert combine_vectors([([1.0, 0.0], 1.0), ([1.0, 1.0], -0.5)])[1] < 0


@pytest.mark.parametrize(
    "parts", [[], [([1.0, 0.0], 1.0), ([2.0, 0.0], -1.0)], [([0.0, 0.0], 1.0)], [([float("nan"), 1.0], 1.0)]]
)
def test_parts_without_a_direction_are_refused(parts):
    with pytest.raises(ConfigError):
        combine_vectors(parts)


def test_a_query_of_another_width_is_refused_with_both():
    with pytest.raises(ConfigError, match=r"8 numbers.*\[3\]"):
        normalize_query(np.ones(3), 8)
