"""Captions by picture and pictures by caption."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.errors import DataError, ShapeError
from zebra.protocols import retrieval
from zebra.protocols.retrieval import compute_retrieval_ranks
from zebra.values import Embeddings


def named(kind, vectors, fingerprint=""):
    vectors = np.asarray(vectors, dtype=np.float32)
    return Embeddings(vectors, tuple(f"{kind}{n}" for n in range(len(vectors))), fingerprint=fingerprint)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def made_up_set(seed, images=30, width=4):
    """One to four captions a picture, in any order, from so few directions that many are the same."""
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat(np.arange(images), rng.integers(1, 5, images)))
    choices = unit(rng.integers(-1, 2, (40, width)) + 0.5)
    return choices[rng.integers(0, 40, images)], choices[rng.integers(0, 40, len(owners))], owners


def by_definition(image_NE, text_ME, owners):
    """The ranks from the whole matrix, candidate by candidate, in double precision."""
    score_MN = text_ME.astype(np.float64) @ image_NE.astype(np.float64).T
    image_rank = [
        1 + sum(score_MN[m, n] > score_MN[m, owner] - 1e-6 for n in range(len(image_NE)) if n != owner)
        for m, owner in enumerate(owners)
    ]
    text_rank = []
    for n in range(len(image_NE)):
        best = score_MN[owners == n, n].max()
        text_rank.append(1 + sum(score_MN[m, n] > best - 1e-6 for m in range(len(owners)) if owners[m] != n))
    return text_rank, image_rank


@given(st.integers(0, 2**32 - 1), st.sampled_from([(7, 5), (64, 64), (1, 30)]))
def test_ranks_are_those_of_the_definition_whatever_the_blocks(seed, blocks):
    images, texts, owners = made_up_set(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "TEXTS_PER_BLOCK", blocks[0])
        patch.setattr(retrieval, "IMAGES_PER_BLOCK", blocks[1])
        found = compute_retrieval_ranks(named("i", images), named("t", texts), owners)
    text_rank, image_rank = by_definition(images.astype(np.float32), texts.astype(np.float32), owners)
    assert found.text_rank_N.tolist() == text_rank
    assert found.image_rank_M.tolist() == image_rank


def test_an_image_is_retrieved_by_its_best_caption():
    images = np.eye(2)
    texts = unit(np.array([[1, 3], [5, 1], [1, 1.1]]))
    found = compute_retrieval_ranks(named("i", images), named("t", texts), np.array([0, 0, 1]))
    assert found.text_rank_N.tolist() == [1, 2]  # the second picture lies nearer to "1, 3", of the first
    assert found.image_rank_M.tolist() == [2, 1, 1]


def test_a_model_that_maps_everything_to_one_point_has_recall_0():
    point = unit(np.ones((60, 8)))
    scores = compute_retrieval_ranks(named("i", point[:20]), named("t", point), np.arange(60) % 20).scores()
    assert len(scores) == 6
    assert all(score.value == 0 for score in scores.values())


def test_a_caption_of_two_images_ranks_second_and_is_counted():
    images = unit(np.array([[1, 0, 0], [1, 0.1, 0], [0, 0, 1]]))
    texts = unit(np.array([[1, 0.05, 0], [1, 0.05, 0], [0, 0, 1]]))
    found = compute_retrieval_ranks(named("i", images), named("t", texts), np.array([0, 1, 2]))
    assert found.text_rank_N.tolist() == [2, 2, 1]
    assert found.num_ambiguous_captions == 2


def test_equal_captions_of_one_image_do_not_compete():
    images = np.eye(2)
    found = compute_retrieval_ranks(named("i", images), named("t", images[[0, 0, 1]]), np.array([0, 0, 1]))
    assert (found.text_rank_N.tolist(), found.num_ambiguous_captions) == ([1, 1], 0)


def test_recall_is_left_out_where_it_would_always_be_1():
    images = np.eye(6)
    scores = compute_retrieval_ranks(
        named("i", images), named("t", images[np.arange(12) % 6]), np.arange(12) % 6
    ).scores()
    assert list(scores) == [
        "image_to_text_recall@1",
        "image_to_text_recall@5",
        "image_to_text_recall@10",
        "text_to_image_recall@1",
        "text_to_image_recall@5",
    ]


def test_inputs_that_do_not_match_are_refused():
    images, texts, owners = named("i", np.eye(3)), named("t", np.eye(3)), np.arange(3)
    with pytest.raises(DataError, match="1 images have no caption, such as i2"):
        compute_retrieval_ranks(images, texts, np.array([0, 1, 1]))
    with pytest.raises(DataError, match="caption t2 belongs to image 3, but there are only 3"):
        compute_retrieval_ranks(images, texts, np.array([0, 1, 3]))
    with pytest.raises(DataError, match="caption t0 belongs to image -1"):
        compute_retrieval_ranks(images, texts, np.array([-1, 1, 2]))
    with pytest.raises(DataError, match="caption t0 has norm 2, not 1"):
        compute_retrieval_ranks(images, named("t", 2 * np.eye(3)), owners)
    with pytest.raises(DataError, match="image i0 has norm nan"):
        compute_retrieval_ranks(named("i", np.full((3, 3), np.nan)), texts, owners)
    with pytest.raises(DataError, match="Use one model for both"):
        compute_retrieval_ranks(named("i", np.eye(3), "one"), named("t", np.eye(3), "other"), owners)
    with pytest.raises(DataError, match="got 0 images and 0 captions"):
        compute_retrieval_ranks(named("i", np.eye(3)[:0]), named("t", np.eye(3)[:0]), owners[:0])
    with pytest.raises(ShapeError, match="differ in dimension"):
        compute_retrieval_ranks(images, named("t", np.eye(4)[:3]), owners)
    with pytest.raises(ShapeError, match="one image index for each of 3"):
        compute_retrieval_ranks(images, texts, owners[:2])
