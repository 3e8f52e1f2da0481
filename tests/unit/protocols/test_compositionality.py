"""Tests of the compositionality protocols."""

import numpy as np
import pytest

from zebra.errors import DataError, ShapeError
from zebra.protocols.compositionality import evaluate_sugarcrepe, evaluate_winoground


def vectors(*rows):
    return np.array(rows, dtype=np.float32)


IMAGES = vectors([1, 0], [1, 0], [1, 0], [1, 0])
POSITIVE = vectors([0.9, 0], [0.5, 0], [0.9, 0], [0.2, 0])
NEGATIVE = vectors([0.1, 0], [0.5, 0], [0.1, 0], [0.3, 0])


def test_the_true_caption_must_be_more_similar_and_ties_are_wrong():
    assert evaluate_sugarcrepe(IMAGES, POSITIVE, NEGATIVE, "aabb").correct_N.tolist() == [True, False, True, False]


def test_accuracy_is_given_for_every_category_and_for_all():
    scores = evaluate_sugarcrepe(IMAGES, POSITIVE, NEGATIVE, ["swap", "swap", "add", "swap"]).scores()
    assert {name: (score.value, score.n) for name, score in scores.items()} == {
        "swap": (pytest.approx(1 / 3), 3),
        "add": (1, 1),
        "accuracy": (0.5, 4),
    }


def from_scores(scores):
    """Evaluate one pair in which image i and caption c have the cosine scores[i][c]."""
    return evaluate_winoground(vectors(scores), vectors([[1, 0], [0, 1]]))


@pytest.mark.parametrize(
    ("scores", "text", "image"),
    [
        ([[0.9, 0.1], [0.1, 0.9]], True, True),
        ([[0.9, 0.8], [0.95, 0.96]], True, False),  # both captions match the second image better
        ([[0.8, 0.9], [0.7, 0.95]], False, True),  # both images match the second caption better
        ([[0.1, 0.9], [0.9, 0.1]], False, False),
        ([[0.5, 0.5], [0.5, 0.5]], False, False),  # a tie is wrong
        ([[0.5, 0.5], [0.1, 0.9]], False, True),
    ],
)
def test_text_image_and_group_scores_of_a_pair(scores, text, image):
    result = from_scores(scores)
    assert (result.text_N[0], result.image_N[0], result.group_N[0]) == (text, image, text and image)


def test_chance_is_1_4_for_text_and_image_and_1_6_for_the_group():
    rng = np.random.default_rng(0)
    result = evaluate_winoground(*rng.normal(size=(2, 40_000, 2, 8)).astype(np.float32)).scores()
    assert result["text"].value == pytest.approx(1 / 4, abs=0.01)
    assert result["image"].value == pytest.approx(1 / 4, abs=0.01)
    # 1/6 holds for four independent scores; scores of shared vectors are slightly dependent.
    assert result["group"].value == pytest.approx(1 / 6, abs=0.02)


def test_equal_captions_always_tie():
    rng = np.random.default_rng(0)
    images, caption = rng.normal(size=(2, 500, 77)).astype(np.float32)
    assert not evaluate_sugarcrepe(images, caption, caption.copy(), ["same"] * 500).correct_N.any()


def test_captions_that_differ_by_less_than_fp32_resolution_are_distinguished():
    image = vectors([1, 1])
    assert evaluate_sugarcrepe(image, vectors([1, 2e-8]), vectors([1, 1e-8]), ["fine"]).correct_N[0]


def test_inputs_that_do_not_match_are_refused():
    with pytest.raises(ShapeError, match=r"must all be \[N, E\]"):
        evaluate_sugarcrepe(IMAGES, POSITIVE[:2], NEGATIVE, "aabb")
    with pytest.raises(DataError, match="3 categories for 4"):
        evaluate_sugarcrepe(IMAGES, POSITIVE, NEGATIVE, "aab")
    with pytest.raises(DataError, match="none named 'accuracy'"):
        evaluate_sugarcrepe(IMAGES, POSITIVE, NEGATIVE, ["accuracy"] * 4)
    with pytest.raises(DataError, match="NaN"):
        evaluate_sugarcrepe(IMAGES, POSITIVE, NEGATIVE * np.nan, "aabb")
    with pytest.raises(DataError, match="0 samples"):
        evaluate_sugarcrepe(IMAGES[:0], POSITIVE[:0], NEGATIVE[:0], "")
    with pytest.raises(ShapeError, match=r"\[N, 2, E\]"):
        evaluate_winoground(np.zeros((1, 3, 4), np.float32), np.zeros((1, 3, 4), np.float32))
