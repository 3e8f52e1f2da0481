"""Choosing between captions that differ in a detail."""

import numpy as np
import pytest

from zebra.errors import DataError, ShapeError
from zebra.protocols.compositionality import evaluate_sugarcrepe, evaluate_winoground


def vectors(*rows):
    return np.array(rows, dtype=np.float32)


PICTURES = vectors([1, 0], [1, 0], [1, 0], [1, 0])
TRUE = vectors([0.9, 0], [0.5, 0], [0.9, 0], [0.2, 0])
FALSE = vectors([0.1, 0], [0.5, 0], [0.1, 0], [0.3, 0])


def test_the_true_caption_must_be_more_similar_and_ties_are_wrong():
    assert evaluate_sugarcrepe(PICTURES, TRUE, FALSE, "aabb").correct_N.tolist() == [True, False, True, False]


def test_accuracy_is_given_for_every_category_and_for_all():
    scores = evaluate_sugarcrepe(PICTURES, TRUE, FALSE, ["swap", "swap", "add", "swap"]).scores()
    assert {name: (score.value, score.n) for name, score in scores.items()} == {
        "swap": (pytest.approx(1 / 3), 3),
        "add": (1, 1),
        "accuracy": (0.5, 4),
    }


def from_scores(scores):
    """A pair whose picture i and caption c have the cosine scores[i][c]: captions are axes."""
    return evaluate_winoground(vectors(scores), vectors([[1, 0], [0, 1]]))


@pytest.mark.parametrize(
    ("scores", "text", "image"),
    [
        ([[0.9, 0.1], [0.1, 0.9]], True, True),
        ([[0.9, 0.8], [0.95, 0.96]], True, False),  # both captions lie nearer to the second picture
        ([[0.8, 0.9], [0.7, 0.95]], False, True),  # both pictures lie nearer to the second caption
        ([[0.1, 0.9], [0.9, 0.1]], False, False),
        ([[0.5, 0.5], [0.5, 0.5]], False, False),  # a tie is wrong
        ([[0.5, 0.5], [0.1, 0.9]], False, True),
    ],
)
def test_text_image_and_group_scores_of_a_pair(scores, text, image):
    found = from_scores(scores)
    assert (found.text_N[0], found.image_N[0], found.group_N[0]) == (text, image, text and image)


def test_chance_is_1_4_for_text_and_image_and_1_6_for_the_group():
    rng = np.random.default_rng(0)
    found = evaluate_winoground(*rng.normal(size=(2, 40_000, 2, 8)).astype(np.float32)).scores()
    assert found["text"].value == pytest.approx(1 / 4, abs=0.01)
    assert found["image"].value == pytest.approx(1 / 4, abs=0.01)
    # A sixth when the four scores are drawn apart; of shared vectors they are not quite.
    assert found["group"].value == pytest.approx(1 / 6, abs=0.02)


def test_equal_captions_always_tie():
    rng = np.random.default_rng(0)
    pictures, caption = rng.normal(size=(2, 500, 77)).astype(np.float32)
    assert not evaluate_sugarcrepe(pictures, caption, caption.copy(), ["same"] * 500).correct_N.any()


def test_captions_that_differ_by_less_than_fp32_resolution_are_distinguished():
    picture = vectors([1, 1])
    assert evaluate_sugarcrepe(picture, vectors([1, 2e-8]), vectors([1, 1e-8]), ["fine"]).correct_N[0]


def test_inputs_that_do_not_match_are_refused():
    with pytest.raises(ShapeError, match=r"must all be \[N, E\]"):
        evaluate_sugarcrepe(PICTURES, TRUE[:2], FALSE, "aabb")
    with pytest.raises(DataError, match="3 categories for 4"):
        evaluate_sugarcrepe(PICTURES, TRUE, FALSE, "aab")
    with pytest.raises(DataError, match="none named 'accuracy'"):
        evaluate_sugarcrepe(PICTURES, TRUE, FALSE, ["accuracy"] * 4)
    with pytest.raises(DataError, match="NaN"):
        evaluate_sugarcrepe(PICTURES, TRUE, FALSE * np.nan, "aabb")
    with pytest.raises(DataError, match="0 samples"):
        evaluate_sugarcrepe(PICTURES[:0], TRUE[:0], FALSE[:0], "")
    with pytest.raises(ShapeError, match=r"\[N, 2, E\]"):
        evaluate_winoground(np.zeros((1, 3, 4), np.float32), np.zeros((1, 3, 4), np.float32))
