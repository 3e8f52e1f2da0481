"""Scores of questions equal the formulas of the benchmarks' authors, and ties count as wrong."""

import numpy as np
import pytest

from zebra.errors import DataError, ShapeError
from zebra.protocols.compositionality import evaluate_choices

CHOICE, TWO_RIGHT, ORDER, PAIR = (0, None), (0, 0, None), (0, None, None, None, None), (0, 1)


def evaluate(image_NIE, caption_NCE, image_of_caption):
    """Evaluate questions that share no image and no caption."""
    (n, i, width), c = image_NIE.shape, caption_NCE.shape[1]
    return evaluate_choices(
        image_NIE.reshape(-1, width),
        caption_NCE.reshape(-1, width),
        np.arange(n * i).reshape(n, i),
        np.arange(n * c).reshape(n, c),
        image_of_caption,
    )


def random_vectors(seed, *shape):
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def correct(image_NIE, caption_NCE, image_of_caption):
    choices = evaluate(image_NIE, caption_NCE, image_of_caption)
    return {name: values.tolist() for name, values in choices.correct.items()}


def test_one_image_and_a_wrong_caption_as_sugarcrepe_and_vl_checklist_count():
    images, captions = random_vectors(0, 300, 1, 8), random_vectors(1, 300, 2, 8)
    expected = [image[0] @ own > image[0] @ other for image, (own, other) in zip(images, captions, strict=True)]
    assert correct(images, captions, CHOICE)["accuracy"] == expected
    assert 100 < sum(expected) < 200


def test_two_right_captions_as_sugarcrepe_pp_counts_with_and_without_the_image():
    images, captions = random_vectors(0, 300, 1, 8), random_vectors(1, 300, 3, 8)
    image_to_text, text_only = [], []
    for (image,), (p1, p2, negative) in zip(images, captions, strict=True):
        image_to_text.append(image @ p1 > image @ negative and image @ p2 > image @ negative)
        text_only.append(p1 @ p2 > p1 @ negative and p1 @ p2 > p2 @ negative)
    answers = correct(images, captions, TWO_RIGHT)
    assert (answers["accuracy"], answers["text_only"]) == (image_to_text, text_only)


def test_four_wrong_orders_as_aro_counts():
    images, captions = random_vectors(0, 300, 1, 8), random_vectors(1, 300, 5, 8)
    expected = [int(np.argmax(own @ image)) == 0 for (image,), own in zip(images, captions, strict=True)]
    assert correct(images, captions, ORDER)["accuracy"] == expected


def test_pairs_as_winoground_naturalbench_and_mmvp_count():
    images, captions = random_vectors(0, 300, 2, 8), random_vectors(1, 300, 2, 8)
    text, image, mmvp = [], [], []
    for (i0, i1), (c0, c1) in zip(images, captions, strict=True):
        text.append(c0 @ i0 > c1 @ i0 and c1 @ i1 > c0 @ i1)
        image.append(c0 @ i0 > c0 @ i1 and c1 @ i1 > c1 @ i0)
        # MMVP's code takes the softmax over the two images for each caption.
        first = [1 / (1 + np.exp(np.float64(caption @ i1) - np.float64(caption @ i0))) for caption in (c0, c1)]
        mmvp.append(first[0] > 0.5 and first[1] <= 0.5)
    answers = correct(images, captions, PAIR)
    assert answers == {"text": text, "image": image, "group": [a and b for a, b in zip(text, image, strict=True)]}
    assert answers["image"] == mmvp


def from_scores(scores):
    """Answer a question in which image i and caption c have the similarity scores[i][c]."""
    scores = np.array(scores, dtype=np.float32)
    answers = evaluate(scores[None], np.eye(scores.shape[1], dtype=np.float32)[None], PAIR)
    return answers.correct["text"][0], answers.correct["image"][0]


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
def test_text_and_image_scores_of_a_pair(scores, text, image):
    assert from_scores(scores) == (text, image)


@pytest.mark.parametrize("form", [CHOICE, TWO_RIGHT, ORDER, PAIR])
def test_random_vectors_reach_the_stated_chance(form):
    num_images = 2 if form == PAIR else 1
    images, captions = random_vectors(0, 20_000, num_images, 256), random_vectors(1, 20_000, len(form), 256)
    choices = evaluate(images, captions, form)
    assert choices.chance.keys() == choices.correct.keys()
    for name, values in choices.correct.items():
        assert values.mean() == pytest.approx(choices.chance[name], abs=0.015), name


def test_a_bag_of_words_ties_on_word_order_and_scores_zero():
    images, words = random_vectors(0, 50, 1, 8), random_vectors(1, 50, 1, 8)
    choices = evaluate(images, np.repeat(words, 5, axis=1), ORDER)
    assert not choices.correct["accuracy"].any()
    assert choices.tied["accuracy"].all()


def test_ties_that_do_not_matter_are_not_counted():
    image, captions = np.array([[[1, 0]]], np.float32), np.array([[[0.9, 0], [0.5, 0], [0.5, 0]]], np.float32)
    choices = evaluate(image, captions, (0, None, None))
    assert (choices.correct["accuracy"].all(), choices.tied["accuracy"].any()) == (True, False)


def test_captions_that_are_recognized_as_wrong_without_an_image_are_found():
    """All wrong captions point away from every image, so no image is needed to reject them."""
    images = random_vectors(0, 200, 1, 16)
    images[:, :, 0] += 2
    right, wrong = random_vectors(1, 200, 1, 16), random_vectors(2, 200, 1, 16)
    wrong[:, :, 0] -= 2
    biased = evaluate(images, np.concatenate([right, wrong], axis=1), CHOICE).correct["blind_accuracy"].mean()
    swapped = evaluate(images, np.concatenate([wrong, right], axis=1), CHOICE).correct["blind_accuracy"].mean()
    assert (biased > 0.95, swapped < 0.05) == (True, True)


def test_many_questions_are_answered_in_blocks(monkeypatch):
    images, captions = random_vectors(0, 100, 1, 8), random_vectors(1, 100, 3, 8)
    expected = correct(images, captions, TWO_RIGHT)
    monkeypatch.setattr("zebra.protocols.compositionality.QUESTIONS_PER_BLOCK", 7)
    assert correct(images, captions, TWO_RIGHT) == expected


def test_captions_that_differ_by_less_than_fp32_resolution_are_distinguished():
    image, captions = np.array([[[1, 1]]], np.float32), np.array([[[1, 2e-8], [1, 1e-8]]], np.float32)
    assert evaluate(image, captions, CHOICE).correct["accuracy"].all()


def test_inputs_that_do_not_match_are_refused():
    images, captions = random_vectors(0, 4, 1, 8), random_vectors(1, 4, 2, 8)
    with pytest.raises(ShapeError, match=r"\[N, I\], \[N, C\]"):
        evaluate_choices(images[:, 0], captions[:, 0], np.zeros((2, 1), int), np.zeros((3, 2), int), CHOICE)
    with pytest.raises(ShapeError, match="3 positions"):
        evaluate(images, captions, TWO_RIGHT)
    with pytest.raises(ShapeError, match=r"\[M, E\] and \[K, E\]"):
        evaluate_choices(images[:, 0], captions[:, 0, :4], np.zeros((4, 1), int), np.zeros((4, 2), int), CHOICE)
    with pytest.raises(DataError, match="NaN"):
        evaluate(images, captions * np.nan, CHOICE)
    with pytest.raises(DataError, match="0 questions"):
        evaluate(images[:0], captions[:0], CHOICE)
