"""Scores by category, means over categories and their intervals."""

import numpy as np
import pytest

from zebra.protocols.category_scores import cluster_by_shared, score_categories, score_proportion, weigh_categories
from zebra.protocols.metrics import mean_per_class_accuracy, proportion


def score(correct, categories, clusters=None, **options):
    weights = weigh_categories(categories, **options)
    clusters = range(len(correct)) if clusters is None else clusters
    return score_categories(np.array(correct, dtype=bool), categories, weights, np.array(clusters))


def test_every_category_counts_equally_in_the_mean():
    scores = score([1, 0, 0, 0, 1], ["swap", "swap", "swap", "swap", "add"])
    assert {name: (value.value, value.n) for name, value in scores.items()} == {
        "": (pytest.approx((1 / 4 + 1) / 2), 5),
        "swap": (1 / 4, 4),
        "add": (1, 1),
    }


def test_kinds_of_kinds_are_averaged_level_by_level_as_vl_checklist_does():
    rng = np.random.default_rng(0)
    names = ["Object/Size/large/vg/obj", "Object/Size/large/vg/subj", "Object/Size/large/swig/tool", "Relation/x/vg"]
    categories = rng.choice(names, 400).tolist()
    correct = rng.random(400) < 0.6
    accuracy = {name: correct[np.array(categories) == name].mean() for name in names}
    sources = [(accuracy[names[0]] + accuracy[names[1]]) / 2, accuracy[names[2]]]  # radar.py: files, then sources
    scores = score(correct, categories)
    assert scores["Object/Size/large"].value == pytest.approx(sum(sources) / 2)
    assert scores[""].value == pytest.approx((sum(sources) / 2 + accuracy[names[3]]) / 2)
    assert scores["Object/Size/large/vg"].value == pytest.approx(sources[0])


def test_small_and_excluded_categories_have_no_score():
    scores = score([1] * 6, ["a", "a", "b", "c", "c", ""], min_size=2, excluded=["c"])
    assert scores.keys() == {"", "a"}


def test_weights_sum_to_one_and_are_zero_for_what_does_not_count():
    weights = weigh_categories(["a/x", "a/y", "a/y", "b", "b", "", "rare"], min_size=1, excluded=["rare"])
    assert weights.tolist() == pytest.approx([1 / 4, 1 / 8, 1 / 8, 1 / 4, 1 / 4, 0, 0])


def test_with_independent_samples_the_interval_is_that_of_the_mean_per_class():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 200)
    correct = rng.random(200) < 0.7
    mean, expected = score(correct, [f"c{label}" for label in labels])[""], mean_per_class_accuracy(correct, labels)
    assert (mean.value, mean.low, mean.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_questions_on_one_image_widen_the_interval():
    rng = np.random.default_rng(0)
    correct = np.repeat(rng.random(50) < 0.7, 4)  # the four questions on an image are all right or all wrong
    categories, clusters = ["a", "b"] * 100, np.repeat(np.arange(50), 4)
    wide, narrow = score(correct, categories, clusters), score(correct, categories)
    for name in ("", "a"):
        assert wide[name].high - wide[name].low > 1.3 * (narrow[name].high - narrow[name].low)
        assert wide[name].value == narrow[name].value


def test_a_proportion_of_independent_samples_is_bitwise_that_of_wilson():
    correct = np.arange(10) < 7
    assert score_proportion(correct, np.arange(10)) == proportion(7, 10)


def test_samples_with_an_item_in_common_are_one_cluster():
    clusters = cluster_by_shared(np.array([[0, 1], [1, 2], [3, 4], [5, 5], [4, 6]]))
    assert (clusters[0] == clusters[1], clusters[2] == clusters[4], len(set(clusters.tolist()))) == (True, True, 3)


def test_all_correct_answers_on_few_images_are_no_certainty():
    mean = score([1] * 40, ["a", "b"] * 20, np.repeat(np.arange(4), 10))[""]
    assert mean.value == 1
    assert mean.low < 0.85
