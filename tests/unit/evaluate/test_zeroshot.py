"""Zero-shot classification on vectors alone."""

import numpy as np
import pytest

from zebra.errors import DataError, ShapeError
from zebra.evaluate.zeroshot import BLOCK, zero_shot
from zebra.values import Embeddings


def images(vectors, labels=None):
    vectors = np.asarray(vectors, dtype=np.float32)
    ids = tuple(str(i) for i in range(len(vectors)))
    return Embeddings(vectors, ids, None if labels is None else np.asarray(labels, dtype=np.int64))


def test_the_class_with_the_largest_cosine_wins():
    head = np.eye(3, dtype=np.float32)
    outcome = zero_shot(images([[0.9, 0.3, 0], [0, 0.1, 0.99]], [0, 1]), head)
    assert outcome.ranked_NK.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert outcome.scores()["top1"].value == 0.5


def test_ties_go_to_the_class_named_first():
    outcome = zero_shot(images([[1, 0]], [1]), np.array([[1, 0], [1, 0]], dtype=np.float32))
    assert outcome.ranked_NK[0].tolist() == [0, 1]


def test_top5_counts_a_true_class_in_fifth_place_and_not_in_sixth():
    head = np.eye(8, dtype=np.float32)
    vector = np.array([[8, 7, 6, 5, 4, 3, 2, 1]], dtype=np.float32)
    assert zero_shot(images(vector, [4]), head).scores()["top5"].value == 1
    assert zero_shot(images(vector, [5]), head).scores()["top5"].value == 0


def test_top5_is_left_out_where_it_would_always_be_1():
    assert "top5" not in zero_shot(images(np.eye(5), range(5)), np.eye(5, dtype=np.float32)).scores()


def test_blocks_do_not_change_the_outcome():
    rng = np.random.default_rng(0)
    vectors, head = rng.normal(size=(BLOCK + 50, 4)), rng.normal(size=(6, 4)).astype(np.float32)
    outcome = zero_shot(images(vectors, np.zeros(BLOCK + 50)), head)
    assert np.array_equal(outcome.ranked_NK[:, 0], (vectors.astype(np.float32) @ head.T).argmax(1))


def test_wrong_input_is_named():
    with pytest.raises(DataError, match="labelled"):
        zero_shot(images(np.eye(2)), np.eye(2, dtype=np.float32))
    with pytest.raises(ShapeError, match="differ in E"):
        zero_shot(images(np.eye(2), [0, 1]), np.eye(3, dtype=np.float32))
    with pytest.raises(DataError, match="NaN"):
        zero_shot(images([[np.nan, 0]], [0]), np.eye(2, dtype=np.float32))
