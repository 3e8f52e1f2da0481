"""Cases for means over categories of questions, some of them about one image."""

from collections.abc import Iterator

import numpy as np

from coverage_cases import Case, IntervalCase
from zebra.protocols.category_scores import score_categories, score_proportion, weigh_categories
from zebra.values import Score

SUGAR_CREPE = {"swap/obj": 246, "swap/att": 666, "replace/obj": 1652, "replace/att": 788, "replace/rel": 1406}
RELATIONS = {f"relation {number}": int(size) for number, size in enumerate(np.geomspace(10, 2000, 48))}
PATTERNS = {f"pattern {number}": 15 for number in range(9)}
KINDS = {f"{kind}/{value}/{source}": 60 for kind in "ab" for value in "cde"[: 2 + (kind == "a")] for source in "xyz"}


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    for sizes, name, low, high in (
        (SUGAR_CREPE, "five kinds of 246 to 1,652 questions in two groups", 0.6, 0.9),
        (RELATIONS, "48 relations of 10 to 2,000 questions", 0.4, 0.9),
        (PATTERNS, "nine patterns of 15 questions", 0.1, 0.5),
        (KINDS, "15 sources of five values of two kinds, 60 questions each", 0.5, 1.0),
    ):
        for per_image, shared in ((1, 0.0), (3, 0.3), (5, 0.6)):
            accuracies = dict(zip(sizes, np.linspace(low, high, len(sizes)), strict=True))
            settings = f"{name}, {per_image} per image, {shared:.0%} of images with one answer"
            categories = [category for category, size in sizes.items() for _ in range(size)]
            weight_N = weigh_categories(categories)
            accuracy_N = np.array([accuracies[category] for category in categories])
            truth = float(weight_N @ accuracy_N)
            yield IntervalCase(
                "mean over categories", settings, truth, _mean(categories, weight_N, accuracy_N, per_image, shared)
            )
            yield IntervalCase(
                "accuracy of questions", settings, float(accuracy_N.mean()), _accuracy(accuracy_N, per_image, shared)
            )


def _answers(accuracy_N, per_image: int, shared: float, seed: int):
    """Return whether N questions are answered, and their images; some images have one random number for all."""
    rng, n = np.random.default_rng(seed), len(accuracy_N)
    image_N = np.random.default_rng(0).permutation(n) // per_image  # the questions are fixed, the answers random
    u_N, u_I, is_shared_I = rng.random(n), rng.random(n), rng.random(n) < shared
    return np.where(is_shared_I[image_N], u_I[image_N], u_N) < accuracy_N, image_N


def _mean(categories, weight_N, accuracy_N, per_image: int, shared: float):
    def draw(seed: int) -> Score:
        correct_N, image_N = _answers(accuracy_N, per_image, shared, seed)
        return score_categories(correct_N, categories, weight_N, image_N)[""]

    return draw


def _accuracy(accuracy_N, per_image: int, shared: float):
    return lambda seed: score_proportion(*_answers(accuracy_N, per_image, shared, seed))
