"""Names of clusters, from captions and from lists of words."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zebra.search.cluster_names import number_clusters, words_from_captions, words_from_vectors


def test_names_are_the_words_that_distinguish_a_cluster():
    captions = ["a photo of a cat", "the cat and a sofa", "a photo of a dog", "a dog, outdoors", None]
    cats, dogs = words_from_captions(captions, np.array([0, 0, 1, 1, 1]), 2)
    assert (cats.name, dogs.name) == ("cat", "dog")
    assert "photo" not in (*cats.words, *dogs.words)


def test_clusters_with_the_same_best_word_are_told_apart_by_further_words():
    captions = ["red cat"] * 3 + ["blue cat"] * 3 + ["green tree"] * 9
    names = [words.name for words in words_from_captions(captions, np.repeat([0, 1, 2], [3, 3, 9]), 3)]
    assert names == ["red cat", "blue cat", "green"] or names == ["red", "blue", "green"]
    same = words_from_vectors(["cat", "dog"], np.eye(3, dtype=np.float32)[:2], np.eye(3, dtype=np.float32)[[0, 0, 2]])
    assert [words.name for words in same] == ["cat 1", "cat 2", "cluster"]


def test_phrases_are_adjacent_words_without_function_words():
    captions = ["ice cream with the nuts", "ice cream and the nuts", "ice on a lake", "cream on a cake"]
    first, _ = words_from_captions(captions, np.array([0, 0, 1, 1]), 2)
    assert first.words[0] in ("ice cream", "nuts")
    assert not any("with" in word or "cream nuts" in word for word in first.words)


def test_words_that_are_as_frequent_everywhere_name_nothing():
    captions = ["ein Hund", "ein Hund", "ein Ball", "ein Ball"]
    first, second = words_from_captions(captions, np.array([0, 0, 1, 1]), 2)
    assert (first.words, second.words) == (("hund",), ("ball",))


def test_words_of_a_list_are_those_nearest_to_a_center_compared_with_the_others():
    vectors_WE = np.array([[1, 0, 0.9], [0, 1, 0.9], [0, 0, 1]], np.float32)
    vectors_WE /= np.linalg.norm(vectors_WE, axis=1, keepdims=True)
    centers_KE = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8]], np.float32)
    first, second = words_from_vectors(["cat", "dog", "image"], vectors_WE, centers_KE)
    assert (first.name, second.name) == ("cat", "dog")
    (only,) = words_from_vectors(["cat", "image"], np.eye(2, dtype=np.float32), np.array([[0.1, 0.9]], np.float32))
    assert only.name == "image"


def test_clusters_without_words_are_numbered():
    assert [words.name for words in number_clusters(2)] == ["cluster 1", "cluster 2"]
    assert words_from_captions(["cat", "dog"], np.array([0, 1]), 2) == number_clusters(2)


@given(st.lists(st.text(max_size=12) | st.none(), min_size=1, max_size=12), st.integers(1, 4))
def test_names_of_any_captions_differ(captions, num_clusters):
    cluster_N = np.arange(len(captions)) % num_clusters
    words = words_from_captions(captions, cluster_N, num_clusters)
    names = [cluster.name for cluster in words]
    assert len(set(names)) == num_clusters
    assert all(names)
