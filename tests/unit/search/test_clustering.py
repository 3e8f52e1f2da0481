"""K-means clusters, the choice of their number, and their outliers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import v_measure_score

from zebra.errors import ConfigError
from zebra.search import clustering
from zebra.search.clustering import cluster_vectors, find_last_peak, is_beyond_fence


def draw_groups(sizes, noise=0.1, width=16, seed=0):
    """Return unit vectors around one random direction per group, and the group of each."""
    rng = np.random.default_rng(seed)
    group_N = np.repeat(np.arange(len(sizes)), sizes)
    vectors_NE = rng.standard_normal((len(sizes), width))[group_N] + noise * rng.standard_normal((sum(sizes), width))
    order_N = rng.permutation(len(group_N))
    return (vectors_NE / np.linalg.norm(vectors_NE, axis=1, keepdims=True))[order_N], group_N[order_N]


@pytest.mark.parametrize("sizes", [(30, 20), (40, 30, 20, 15, 10), (20,) * 12])
def test_the_number_of_well_separated_groups_is_found(sizes):
    vectors_NE, group_N = draw_groups(sizes)
    result = cluster_vectors(vectors_NE)
    assert len(result) == len(sizes)
    assert v_measure_score(group_N, result.cluster_N) == 1
    assert np.bincount(result.cluster_N).tolist() == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("scores", "number"),
    [
        ({2: 0.4, 3: 0.35, 4: 0.37, 5: 0.3}, 4),
        ({2: 0.4, 3: 0.3, 4: 0.2, 5: 0.23, 6: 0.1}, 2),
        ({2: 0.1, 3: 0.2, 4: 0.3}, 4),
        ({2: 0.4, 3: 0.3, 4: 0.35}, 2),
        ({2: 0.2}, 2),
        ({2: -0.1, 3: -0.2}, 2),
    ],
)
def test_the_number_of_clusters_is_the_last_high_peak_of_the_silhouettes(scores, number):
    assert find_last_peak(scores) == number


def test_clusters_within_clusters_are_told_apart():
    rng = np.random.default_rng(0)
    center_KE = np.repeat(rng.standard_normal((4, 64)), 5, axis=0) + 0.6 * rng.standard_normal((20, 64))
    vectors_NE = center_KE[np.arange(1000) % 20] + 0.5 * rng.standard_normal((1000, 64))
    assert len(cluster_vectors(vectors_NE)) == 20


def test_lengths_and_types_of_vectors_do_not_matter():
    vectors_NE, _ = draw_groups((30, 20, 10))
    lengths_N1 = np.random.default_rng(1).uniform(0.5, 20, (60, 1))
    expected = cluster_vectors(vectors_NE, 3).cluster_N
    assert (cluster_vectors(vectors_NE * lengths_N1, 3).cluster_N == expected).all()
    assert (cluster_vectors(vectors_NE.astype(np.float16), 3).cluster_N == expected).all()


def test_centers_from_a_sample_serve_all_vectors(monkeypatch):
    monkeypatch.setattr(clustering, "SAMPLE_ROWS", 40)
    monkeypatch.setattr(clustering, "CHOICE_ROWS", 40)
    monkeypatch.setattr(clustering, "BLOCK_ROWS", 7)
    vectors_NE, group_N = draw_groups((100, 80, 60))
    result = cluster_vectors(vectors_NE)
    assert v_measure_score(group_N, result.cluster_N) == 1
    assert result.cosine_N.min() > 0.8


def test_a_vector_far_from_its_center_is_an_outlier_of_its_cluster():
    vectors_NE, group_N = draw_groups((40, 40), noise=0.05)
    far = np.flatnonzero(group_N == 0)[0]
    vectors_NE[far] += 0.3 * np.eye(16)[0]
    assert np.flatnonzero(cluster_vectors(vectors_NE, 2).find_outliers()).tolist() == [far]


def test_the_fence_of_equal_distances_has_nothing_beyond_it():
    assert not is_beyond_fence(np.zeros(20)).any()
    assert is_beyond_fence(np.array([0.1, 0.11, 0.1, 0.12] * 5 + [3.0])).sum() == 1


def test_more_clusters_than_images_are_refused():
    with pytest.raises(ConfigError, match=r"4 clusters need as many images; there are 3\. Use a lower --num-clusters"):
        cluster_vectors(np.eye(3), 4)


@given(st.integers(1, 12), st.integers(1, 4), st.sampled_from([None, 1, 2, 5]))
def test_any_vectors_get_clusters_without_gaps(num_rows, num_distinct, num_clusters):
    vectors_NE = np.eye(4)[np.arange(num_rows) % num_distinct]
    if num_clusters is not None and num_clusters > num_rows:
        num_clusters = None
    result = cluster_vectors(vectors_NE, num_clusters)
    assert set(result.cluster_N.tolist()) == set(range(len(result)))
    assert len(result) <= min(num_rows, num_distinct, num_clusters or num_rows)
    assert np.isfinite(result.centers_KE).all()
