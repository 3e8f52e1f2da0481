"""Tests of associations against DataComp's formula, written independently with scikit-learn's Jaccard index."""

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from zebra.errors import DataError
from zebra.protocols.association import evaluate_associations


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def datacomp_jaccard(image_NE, cue_E, candidates, associated) -> float:
    """DataComp: the candidates with the highest similarities, as many as are associated."""
    is_associated = np.isin(candidates, associated)
    chosen = np.argsort(image_NE[candidates] @ cue_E)[-is_associated.sum() :]
    return jaccard_score(is_associated, np.isin(np.arange(len(candidates)), chosen))


def test_the_scores_are_those_of_datacomp_by_number_of_candidates():
    rng = np.random.default_rng(0)
    images, cues = unit(rng, 60, 8), unit(rng, 80, 8)
    sizes = rng.choice([5, 6, 10, 12], 80)
    candidates = [rng.choice(60, size, replace=False) for size in sizes]
    associated = [rng.choice(indices, rng.integers(1, 4), replace=False) for indices in candidates]
    expected = np.array(list(map(datacomp_jaccard, [images] * 80, cues, candidates, associated)))
    scores = evaluate_associations(images, cues, candidates, associated).scores()
    assert scores["jaccard"].value == pytest.approx(expected.mean())
    assert scores["jaccard_5-6"].value == pytest.approx(expected[sizes <= 6].mean())
    assert scores["jaccard_10-12"].value == pytest.approx(expected[sizes >= 10].mean())
    assert scores["jaccard_10-12"].n == (sizes >= 10).sum()


def test_a_model_that_maps_everything_to_one_point_chooses_wrong_images():
    point = np.ones((6, 4), np.float32) / 2
    scores = evaluate_associations(point, point[:1], [[0, 1, 2, 3, 4, 5]], [[0, 1]]).scores()
    assert scores["jaccard"].value == 0
    assert set(scores) == {"jaccard", "jaccard_5-6"}


def test_questions_on_one_set_of_images_are_one_cluster():
    rng = np.random.default_rng(1)
    images, cues = unit(rng, 100, 8), unit(rng, 40, 8)
    sets = [list(range(5 * n, 5 * n + 5)) for n in range(20)]
    once = evaluate_associations(images, cues[:20], sets, [indices[:2] for indices in sets]).scores()["jaccard"]
    twice = evaluate_associations(
        images, np.concatenate([cues[:20]] * 2), [*sets, *(indices[::-1] for indices in sets)],
        [indices[:2] for indices in sets] * 2,
    ).scores()["jaccard"]  # fmt: skip
    assert (twice.low, twice.high, twice.n) == pytest.approx((once.low, once.high, 40))


def test_no_questions_and_vectors_of_a_diverged_model_are_errors():
    with pytest.raises(DataError, match="0 associations"):
        evaluate_associations(np.ones((2, 2), np.float32), np.ones((0, 2), np.float32), [], [])
    with pytest.raises(DataError, match="diverged"):
        evaluate_associations(np.full((2, 2), np.nan, np.float32), np.ones((1, 2), np.float32), [[0, 1]], [[0]])
