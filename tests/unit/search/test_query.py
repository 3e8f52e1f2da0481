"""Queries are unit vectors and weighted sums of them."""

import numpy as np
import pytest
import torch

from zebra.errors import ConfigError
from zebra.search.query import combine_vectors, normalize_query


def test_vectors_count_by_their_weight_whatever_their_norm():
    total = combine_vectors([([1.0, 0.0], 1.0), ([0.0, 1.0], 1.0)])
    assert np.allclose(total, combine_vectors([([5.0, 0.0], 1.0), (torch.tensor([0.0, 0.1]), 1.0)]))
    assert np.isclose(np.linalg.norm(total), 1)
    assert combine_vectors([([1.0, 0.0], 1.0), ([1.0, 1.0], -0.5)])[1] < 0


@pytest.mark.parametrize(
    "parts", [[], [([1.0, 0.0], 1.0), ([2.0, 0.0], -1.0)], [([0.0, 0.0], 1.0)], [([float("nan"), 1.0], 1.0)]]
)
def test_sums_without_a_direction_are_rejected(parts):
    with pytest.raises(ConfigError):
        combine_vectors(parts)


def test_a_query_of_another_size_is_rejected_with_both_sizes():
    with pytest.raises(ConfigError, match=r"size 8.*\[3\]"):
        normalize_query(np.ones(3), 8)
