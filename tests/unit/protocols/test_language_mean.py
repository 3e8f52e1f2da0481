"""The mean over languages and its interval."""

import numpy as np
import pytest

from zebra.errors import DataError
from zebra.protocols.language_mean import LanguageHits, average_languages, average_metrics, image_contributions
from zebra.protocols.metrics import clustered_proportion


def hits(values: list[int], images: list[int] | None = None) -> LanguageHits:
    return LanguageHits(np.array(values, dtype=bool), np.array(range(len(values)) if images is None else images))


def draw(seed: int, num_languages: int, num_images: int, own: float) -> list[LanguageHits]:
    """Draw hits of languages that agree on an image except for a fraction `own` of them."""
    rng = np.random.default_rng(seed)
    shared_N = rng.random(num_images) < 0.6
    return [
        LanguageHits(
            np.where(rng.random(num_images) < own, rng.random(num_images) < 0.6, shared_N), np.arange(num_images)
        )
        for _ in range(num_languages)
    ]


def test_each_language_has_equal_weight() -> None:
    score = average_languages([hits([1, 1, 1, 1]), hits([0, 0], [0, 3])])
    assert score.value == 0.5
    assert score.n == 4  # images


def test_one_language_has_the_interval_of_clustered_samples() -> None:
    one = hits([1, 0, 1, 1, 0, 1, 1, 0] * 20, [index // 2 for index in range(160)])
    mean, expected = average_languages([one]), clustered_proportion(one.hit_M, one.image_of_hit_M)
    assert mean.value == expected.value
    assert (mean.low, mean.high) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_languages_that_repeat_each_other_add_no_certainty() -> None:
    one = hits([1, 0] * 50)
    single, repeated = average_languages([one]), average_languages([one] * 5)
    assert (repeated.low, repeated.high) == pytest.approx((single.low, single.high))


def test_languages_that_differ_by_image_add_certainty() -> None:
    same, different = average_languages(draw(0, 8, 400, 0.0)), average_languages(draw(0, 8, 400, 1.0))
    assert different.high - different.low < 0.5 * (same.high - same.low)


def test_only_hits_leave_the_uncertainty_of_the_images() -> None:
    score = average_languages([hits([1] * 20)] * 3)
    assert score.value == score.high == 1
    assert score.low == pytest.approx(20 / (20 + 2.093**2), abs=1e-3)  # t of 19 degrees of freedom


def test_the_contributions_of_images_average_to_the_mean() -> None:
    languages = [hits([1, 0, 1, 1], [0, 0, 1, 2]), hits([0, 1], [2, 1])]
    contributions = image_contributions(languages, 4)
    assert contributions.mean() == pytest.approx(average_languages(languages).value)
    assert contributions[3] == 0


def test_a_metric_that_a_language_lacks_has_no_mean() -> None:
    one = hits([1, 0])
    assert list(average_metrics({"de": {"top1": one, "top5": one}, "sw": {"top1": one}})) == ["top1"]


@pytest.mark.parametrize("languages", [[], [hits([1]), hits([])]])
def test_nothing_has_no_mean(languages: list[LanguageHits]) -> None:
    with pytest.raises(DataError, match="cannot average over languages"):
        average_languages(languages)
