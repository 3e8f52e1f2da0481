"""Tests of image-text retrieval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.errors import DataError, ShapeError
from zebra.protocols import retrieval
from zebra.protocols.retrieval import compute_retrieval_ranks
from zebra.values import Embeddings


def make_embeddings(kind, vectors, fingerprint=""):
    vectors = np.asarray(vectors, dtype=np.float32)
    return Embeddings(vectors, tuple(f"{kind}{n}" for n in range(len(vectors))), fingerprint=fingerprint)


def normalize(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_dataset(seed, images=30, width=4):
    """Return images with one to four captions each, in random order, with many equal vectors."""
    rng = np.random.default_rng(seed)
    image_of_text = rng.permutation(np.repeat(np.arange(images), rng.integers(1, 5, images)))
    choices = normalize(rng.integers(-1, 2, (40, width)) + 0.5)
    return (choices[rng.integers(0, 40, images)], choices[rng.integers(0, 40, len(image_of_text))], image_of_text)


def compute_expected_ranks(image_NE, text_ME, image_of_text):
    """Compute the ranks by definition from the full score matrix in float64."""
    score_MN = text_ME.astype(np.float64) @ image_NE.astype(np.float64).T
    image_rank = [
        1 + sum(score_MN[m, n] > score_MN[m, owner] - 1e-6 for n in range(len(image_NE)) if n != owner)
        for m, owner in enumerate(image_of_text)
    ]
    text_rank = []
    for n in range(len(image_NE)):
        best = score_MN[image_of_text == n, n].max()
        text_rank.append(
            1 + sum(score_MN[m, n] > best - 1e-6 for m in range(len(image_of_text)) if image_of_text[m] != n)
        )
    return text_rank, image_rank


@given(st.integers(0, 2**32 - 1), st.sampled_from([(7, 5), (64, 64), (1, 30)]))
def test_ranks_are_those_of_the_definition_whatever_the_blocks(seed, blocks):
    images, texts, image_of_text = make_dataset(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "TEXTS_PER_BLOCK", blocks[0])
        patch.setattr(retrieval, "IMAGES_PER_BLOCK", blocks[1])
        result = compute_retrieval_ranks(make_embeddings("i", images), make_embeddings("t", texts), image_of_text)
    text_rank, image_rank = compute_expected_ranks(images.astype(np.float32), texts.astype(np.float32), image_of_text)
    assert result.text_rank_N.tolist() == text_rank
    assert result.image_rank_M.tolist() == image_rank


def test_an_image_is_retrieved_by_its_best_caption():
    images = np.eye(2)
    texts = normalize(np.array([[1, 3], [5, 1], [1, 1.1]]))
    result = compute_retrieval_ranks(make_embeddings("i", images), make_embeddings("t", texts), np.array([0, 0, 1]))
    assert result.text_rank_N.tolist() == [1, 2]  # caption (1, 3) of image 0 is more similar to image 1
    assert result.image_rank_M.tolist() == [2, 1, 1]


def test_the_preferred_captions_are_those_of_the_full_score_matrix(monkeypatch):
    monkeypatch.setattr(retrieval, "TEXTS_PER_BLOCK", 7)
    monkeypatch.setattr(retrieval, "IMAGES_PER_BLOCK", 5)
    rng = np.random.default_rng(0)
    image_NE, text_ME = (normalize(rng.standard_normal((count, 8))) for count in (12, 30))
    image_of_text = rng.permutation(np.arange(30) % 12)
    ranks = compute_retrieval_ranks(make_embeddings("i", image_NE), make_embeddings("t", text_ME), image_of_text)
    score_MN = text_ME @ image_NE.T
    is_own_MN = image_of_text[:, None] == np.arange(12)
    assert np.array_equal(ranks.own_text_N, np.where(is_own_MN, score_MN, -2).argmax(axis=0))
    assert np.array_equal(ranks.other_text_N, np.where(is_own_MN, -2, score_MN).argmax(axis=0))


def test_a_single_image_has_no_caption_of_another_image():
    ranks = compute_retrieval_ranks(make_embeddings("i", [[1, 0]]), make_embeddings("t", [[1, 0]]), np.array([0]))
    assert (ranks.own_text_N.tolist(), ranks.other_text_N.tolist()) == ([0], [-1])


def test_a_model_that_maps_everything_to_one_point_has_recall_0():
    point = normalize(np.ones((60, 8)))
    scores = compute_retrieval_ranks(
        make_embeddings("i", point[:20]), make_embeddings("t", point), np.arange(60) % 20
    ).scores()
    assert len(scores) == 6
    assert all(score.value == 0 for score in scores.values())


def test_a_caption_of_two_images_ranks_second_and_is_counted():
    images = normalize(np.array([[1, 0, 0], [1, 0.1, 0], [0, 0, 1]]))
    texts = normalize(np.array([[1, 0.05, 0], [1, 0.05, 0], [0, 0, 1]]))
    result = compute_retrieval_ranks(make_embeddings("i", images), make_embeddings("t", texts), np.array([0, 1, 2]))
    assert result.text_rank_N.tolist() == [2, 2, 1]
    assert result.num_ambiguous_captions == 2


def test_equal_captions_of_one_image_do_not_compete():
    images = np.eye(2)
    result = compute_retrieval_ranks(
        make_embeddings("i", images), make_embeddings("t", images[[0, 0, 1]]), np.array([0, 0, 1])
    )
    assert (result.text_rank_N.tolist(), result.num_ambiguous_captions) == ([1, 1], 0)


def test_recall_is_left_out_where_it_would_always_be_1():
    images = np.eye(6)
    scores = compute_retrieval_ranks(
        make_embeddings("i", images), make_embeddings("t", images[np.arange(12) % 6]), np.arange(12) % 6
    ).scores()
    assert list(scores) == [
        "image_to_text_recall@1",
        "image_to_text_recall@5",
        "image_to_text_recall@10",
        "text_to_image_recall@1",
        "text_to_image_recall@5",
    ]


def test_inputs_that_do_not_match_are_refused():
    images, texts, image_of_text = (make_embeddings("i", np.eye(3)), make_embeddings("t", np.eye(3)), np.arange(3))
    with pytest.raises(DataError, match="1 images have no caption, such as i2"):
        compute_retrieval_ranks(images, texts, np.array([0, 1, 1]))
    with pytest.raises(DataError, match="caption t2 belongs to image 3, but there are only 3"):
        compute_retrieval_ranks(images, texts, np.array([0, 1, 3]))
    with pytest.raises(DataError, match="caption t0 belongs to image -1"):
        compute_retrieval_ranks(images, texts, np.array([-1, 1, 2]))
    with pytest.raises(DataError, match="caption t0 has norm 2, not 1"):
        compute_retrieval_ranks(images, make_embeddings("t", 2 * np.eye(3)), image_of_text)
    with pytest.raises(DataError, match="image i0 has norm nan"):
        compute_retrieval_ranks(make_embeddings("i", np.full((3, 3), np.nan)), texts, image_of_text)
    with pytest.raises(DataError, match="Use one model for both"):
        compute_retrieval_ranks(
            make_embeddings("i", np.eye(3), "one"), make_embeddings("t", np.eye(3), "other"), image_of_text
        )
    with pytest.raises(DataError, match="got 0 images and 0 captions"):
        compute_retrieval_ranks(
            make_embeddings("i", np.eye(3)[:0]), make_embeddings("t", np.eye(3)[:0]), image_of_text[:0]
        )
    with pytest.raises(ShapeError, match="differ in dimension"):
        compute_retrieval_ranks(images, make_embeddings("t", np.eye(4)[:3]), image_of_text)
    with pytest.raises(ShapeError, match="one image index for each of 3"):
        compute_retrieval_ranks(images, texts, image_of_text[:2])


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_recall_at_1_is_datacomps_with_several_captions_per_image(seed):
    rng = np.random.default_rng(seed)
    image_of_text = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    images = normalize(rng.normal(size=(40, 6))).astype(np.float32)
    texts = normalize(images[image_of_text] + 0.5 * rng.normal(size=(len(image_of_text), 6))).astype(np.float32)
    score_MN = texts @ images.T
    text_recall = np.mean(image_of_text[score_MN.argmax(axis=0)] == np.arange(40))
    image_recall = np.mean(score_MN.argmax(axis=1) == image_of_text)
    ranks = compute_retrieval_ranks(make_embeddings("i", images), make_embeddings("t", texts), image_of_text)
    score = ranks.mean_recall_at_1()
    assert score.value == pytest.approx(0.5 * (text_recall + image_recall))
    assert 0 < score.low < score.value < score.high < 1
    assert score.n == 40
