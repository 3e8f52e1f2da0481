"""Tests of zero-shot classification."""

import numpy as np
import pytest
import torch

from zebra.errors import DataError, ShapeError
from zebra.pretrained.bundle import rank_labels
from zebra.protocols.zero_shot import ROWS_PER_BLOCK, classify_zero_shot, score_zero_shot_multilabel
from zebra.values import Embeddings


def images(vectors, labels=None):
    vectors = np.asarray(vectors, dtype=np.float32)
    ids = tuple(str(i) for i in range(len(vectors)))
    return Embeddings(vectors, ids, None if labels is None else np.asarray(labels, dtype=np.int64))


def test_the_class_with_the_largest_cosine_wins():
    head = np.eye(3, dtype=np.float32)
    result = classify_zero_shot(images([[0.9, 0.3, 0], [0, 0.1, 0.99]], [0, 1]), head)
    assert result.ranked_NK.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert result.scores()["top1"].value == 0.5


def test_of_equal_scores_the_lower_index_wins():
    result = classify_zero_shot(images([[1, 0]], [1]), np.array([[1, 0], [1, 0]], dtype=np.float32))
    assert result.ranked_NK[0].tolist() == [0, 1]


def test_top5_counts_rank_5_and_not_rank_6():
    head = np.eye(8, dtype=np.float32)
    vector = np.array([[8, 7, 6, 5, 4, 3, 2, 1]], dtype=np.float32)
    assert classify_zero_shot(images(vector, [4]), head).scores()["top5"].value == 1
    assert classify_zero_shot(images(vector, [5]), head).scores()["top5"].value == 0


def test_top5_is_left_out_where_it_would_always_be_1():
    assert "top5" not in classify_zero_shot(images(np.eye(5), range(5)), np.eye(5, dtype=np.float32)).scores()


def test_blocks_do_not_change_the_result():
    rng = np.random.default_rng(0)
    vectors, head = rng.normal(size=(ROWS_PER_BLOCK + 50, 4)), rng.normal(size=(6, 4)).astype(np.float32)
    result = classify_zero_shot(images(vectors, np.zeros(ROWS_PER_BLOCK + 50)), head)
    assert np.array_equal(result.ranked_NK[:, 0], (vectors.astype(np.float32) @ head.T).argmax(1))


def test_invalid_input_is_named():
    with pytest.raises(DataError, match="labeled"):
        classify_zero_shot(images(np.eye(2)), np.eye(2, dtype=np.float32))
    with pytest.raises(ShapeError, match="differ in dimension"):
        classify_zero_shot(images(np.eye(2), [0, 1]), np.eye(3, dtype=np.float32))
    with pytest.raises(DataError, match="NaN"):
        classify_zero_shot(images([[np.nan, 0]], [0]), np.eye(2, dtype=np.float32))
    with pytest.raises(DataError, match="infinity"):
        classify_zero_shot(images([[np.inf, 0]], [0]), np.eye(2, dtype=np.float32))
    with pytest.raises(DataError, match=r"1 labels are outside .*such as 2 of 0"):
        classify_zero_shot(images([[1, 0]], [2]), np.eye(2, dtype=np.float32))
    with pytest.raises(DataError, match="such as -1 of"):
        classify_zero_shot(images([[1, 0]], [-1]), np.eye(2, dtype=np.float32))


def test_one_class_is_refused():
    with pytest.raises(DataError, match="at least two"):
        classify_zero_shot(images([[1, 0]], [0]), np.eye(2, dtype=np.float32)[:1])


def test_two_classes_also_have_an_auc():
    """Three of the 2 × 2 pairs of a negative and a positive image are ordered correctly."""
    vectors = [[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.1, 0.9]]
    result = classify_zero_shot(images(vectors, [0, 0, 1, 1]), np.eye(2, dtype=np.float32))
    assert result.scores()["roc_auc"].value == 0.75
    assert "roc_auc" not in classify_zero_shot(images(vectors[:2], [0, 0]), np.eye(2, dtype=np.float32)).scores()


def test_the_kinetics_metric_counts_ranks_2_to_5_as_one_half():
    vector = np.array([[8, 7, 6, 5, 4, 3, 2, 1]] * 3, dtype=np.float32)
    assert classify_zero_shot(images(vector, [0, 4, 5]), np.eye(8, dtype=np.float32)).mean_top1_top5().value == 0.5


def test_multilabel_images_are_scored_by_mean_average_precision():
    """Class 0 has ranks 1 and 3 of three, class 1 rank 2: (1 + 2/3) / 2 and 1/2; class 2 has no image."""
    vectors = [[0.9, 0.2, 0], [0.8, 0.9, 0], [0.7, 0.5, 0]]
    labels = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=bool)
    result = score_zero_shot_multilabel(images(vectors), labels, np.eye(3, dtype=np.float32))
    assert result.scores()["map"].value == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert result.scores()["map11"].value == pytest.approx(((6 * 1 + 5 * 2 / 3) / 11 + 1 / 2) / 2)
    assert result.is_absent_C.tolist() == [False, False, True]


def test_multilabel_labels_must_be_bool():
    head = np.eye(2, dtype=np.float32)
    with pytest.raises(DataError, match="got int64"):
        score_zero_shot_multilabel(images([[1, 0]]), np.array([[1, 0]]), head)
    with pytest.raises(ShapeError, match=r"for 1 images and 2 classes"):
        score_zero_shot_multilabel(images([[1, 0]]), np.ones((2, 1), bool), head)


def test_probabilities_are_those_of_classify():
    vectors = [[0.6, 0.8, 0], [0, 1, 0], [0.8, 0, 0.6]]
    head = np.eye(3, dtype=np.float32)
    for scale, bias in ((10.0, None), (10.0, -4.0)):
        result = classify_zero_shot(images(vectors, [0, 1, 2]), head, scale=scale, bias=bias)
        ranked = rank_labels(torch.tensor(vectors), torch.eye(3), ["0", "1", "2"], scale=scale, bias=bias)
        expected = [
            [predictions[0].score, next(p.score for p in predictions if p.label == str(label))]
            for label, predictions in enumerate(ranked)
        ]
        np.testing.assert_allclose(result.probability_N2, expected, rtol=1e-5)
    assert classify_zero_shot(images(vectors, [0, 1, 2]), head).probability_N2 is None


def test_probabilities_of_large_logits_are_finite():
    result = classify_zero_shot(images([[1, 0]], [1]), np.eye(2, dtype=np.float32), scale=1e6)
    assert result.probability_N2.tolist() == [[1.0, 0.0]]
