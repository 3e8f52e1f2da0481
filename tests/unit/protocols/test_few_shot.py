"""Tests of few-shot probes and their comparison with zero-shot."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import linregress, t

from zebra.errors import ConfigError, DataError
from zebra.protocols import few_shot as module
from zebra.protocols.few_shot import FewShotResult, correlate_with_probe, fit_few_shot_probes, subtract_probe_scores
from zebra.protocols.linear_probe import LogisticSolver
from zebra.protocols.metrics import proportion
from zebra.protocols.zero_shot import ClassificationResult
from zebra.values import Embeddings


def make_embeddings(n, classes=3, width=5, seed=0):
    center_CD = 0.8 * np.random.default_rng(99).normal(size=(classes, width))
    label_N = np.arange(n) % classes
    vector_ND = center_CD[label_N] + np.random.default_rng(seed).normal(size=(n, width))
    return Embeddings(vector_ND.astype(np.float32), tuple(f"{seed}-{i}" for i in range(n)), label_N)


def make_result(num_correct, n=100):
    """Return a result with `num_correct` correct predictions of n."""
    return ClassificationResult(
        np.stack([np.arange(n) >= num_correct, np.arange(n) < num_correct], axis=1).astype(int), np.zeros(n, int), 2
    )


def test_more_examples_make_a_better_probe():
    points = fit_few_shot_probes(make_embeddings(60), make_embeddings(300, seed=1), 3, 1.0)
    assert [point.shots for point in points] == [1, 2, 4, 8, 16]
    assert points[-1].mean().score.value > points[0].mean().score.value + 0.05
    assert all(len(point.results) == 3 and point.num_unconverged == 0 for point in points)


def test_draws_have_equal_classes_and_smaller_draws_are_subsets(monkeypatch):
    draws = []

    def spy(vectors, labels, classes):
        draws.append((set(map(bytes, vectors)), np.bincount(labels).tolist()))
        return LogisticSolver(vectors, labels, classes)

    monkeypatch.setattr(module, "LogisticSolver", spy)
    fit_few_shot_probes(make_embeddings(30), make_embeddings(9, seed=1), 3, 1.0, shots=(1, 4))
    assert [counts for _, counts in draws] == [[1, 1, 1], [4, 4, 4]] * 3
    assert all(small <= large for (small, _), (large, _) in zip(draws[::2], draws[1::2], strict=True))
    assert draws[1][0] != draws[3][0] != draws[5][0]


def test_the_seed_decides_the_draws():
    train, test = make_embeddings(60), make_embeddings(60, seed=1)

    def ranked(seed):
        return fit_few_shot_probes(train, test, 3, 1.0, shots=(2,), seed=seed)[0].results[0].ranked_NK

    assert np.array_equal(ranked(0), ranked(0))
    assert not np.array_equal(ranked(0), ranked(1))


def test_test_labels_do_not_change_the_predictions():
    train, test = make_embeddings(30), make_embeddings(60, seed=1)
    first = fit_few_shot_probes(train, test, 3, 1.0, shots=(2,))
    second = fit_few_shot_probes(train, replace(test, labels=np.zeros(60, int)), 3, 1.0, shots=(2,))
    for one, two in zip(first[0].results, second[0].results, strict=True):
        assert np.array_equal(one.ranked_NK, two.ranked_NK)


def test_different_draws_use_the_interval_of_a_t_distribution():
    mean = FewShotResult(4, (make_result(44), make_result(50), make_result(56)), 0).mean()
    low, high = t.interval(0.95, 2, 0.5, np.std([0.44, 0.5, 0.56], ddof=1) / np.sqrt(3))
    assert mean.interval_source == "draws"
    assert mean.score.value == pytest.approx(0.5)
    assert (mean.score.low, mean.score.high) == (pytest.approx(low), pytest.approx(high))


def test_equal_draws_use_the_interval_over_test_samples():
    mean, one = FewShotResult(4, (make_result(50),) * 3, 0).mean(), proportion(50, 100)
    assert mean.interval_source == "samples"
    assert (mean.score.low, mean.score.high) == (pytest.approx(one.low), pytest.approx(one.high))
    assert mean.score.n == 100


def test_an_interval_stays_inside_0_and_1():
    mean = FewShotResult(4, (make_result(0), make_result(50), make_result(100)), 0).mean()
    assert (mean.score.low, mean.score.high) == (0, 1)


def test_the_mean_is_of_the_requested_metric():
    uneven = ClassificationResult(np.array([[0, 1], [0, 1], [0, 1], [0, 1]]), np.array([0, 0, 0, 1]), 2)
    point = FewShotResult(1, (uneven,) * 3, 0)
    assert (point.mean().score.value, point.mean("mean_per_class").score.value) == (0.75, 0.5)


def test_a_class_with_fewer_examples_than_shots_is_named():
    train = make_embeddings(30)
    train = replace(train, labels=np.where(np.arange(30) < 27, np.arange(30) % 2, 2))
    with pytest.raises(DataError, match="1 classes have fewer than 4 training examples, such as class 2 with 3"):
        fit_few_shot_probes(train, make_embeddings(9), 3, 1.0, shots=(1, 4))
    with pytest.raises(DataError, match="such as class 3 with 0"):
        fit_few_shot_probes(make_embeddings(30), make_embeddings(9), 4, 1.0, shots=(1,))


def test_invalid_draws_are_refused():
    with pytest.raises(ConfigError, match="at least 3"):
        fit_few_shot_probes(make_embeddings(30), make_embeddings(9), 3, 1.0, num_repeats=2)
    for shots in ((), (0, 1)):
        with pytest.raises(ConfigError, match="each at least 1"):
            fit_few_shot_probes(make_embeddings(30), make_embeddings(9), 3, 1.0, shots=shots)
    with pytest.raises(DataError, match=r"have class 0. A linear probe needs at least two"):
        fit_few_shot_probes(make_embeddings(30, classes=1), make_embeddings(9, classes=1), 1, 1.0, shots=(1,))
    with pytest.raises(DataError, match="test split contain NaN"):
        fit_few_shot_probes(
            make_embeddings(30),
            replace(make_embeddings(1), vectors=np.full((1, 5), np.nan, np.float32)),
            3,
            1.0,
            shots=(1,),
        )


def scores(**num_correct):
    return {name: proportion(count, 1000) for name, count in num_correct.items()}


def test_differences_are_sorted_and_have_newcombes_interval():
    """Newcombe 1998, method 10, by hand for 'pets': 0.9 − 0.8 at n = 1000 each."""
    differences = subtract_probe_scores(scores(dtd=500, pets=900), scores(pets=800, dtd=700))
    assert list(differences) == ["pets", "dtd"]
    assert differences["pets"].value == pytest.approx(0.1)
    assert differences["dtd"].value == pytest.approx(-0.2)
    one, two = proportion(900, 1000), proportion(800, 1000)
    assert differences["pets"].low == pytest.approx(0.1 - np.hypot(0.9 - one.low, two.high - 0.8))
    assert differences["pets"].high == pytest.approx(0.1 + np.hypot(one.high - 0.9, 0.8 - two.low))


X = {"a": 500, "b": 620, "c": 700, "d": 810, "e": 905}
Y = {"e": 850, "a": 310, "b": 600, "c": 580, "d": 790}


def test_correlation_and_slope_are_those_of_scipy():
    result, expected = (
        correlate_with_probe(scores(**Y), scores(**X)),
        linregress(list(X.values()), [Y[name] for name in X]),
    )
    assert result.r.value == pytest.approx(expected.rvalue)
    assert result.slope.value == pytest.approx(expected.slope)
    assert result.p_value == pytest.approx(expected.pvalue)
    assert result.slope.n == 5


def test_the_interval_of_the_slope_is_that_of_a_bootstrap_over_datasets():
    """The expected bootstrap draws one resample at a time."""
    result, rng = correlate_with_probe(scores(**Y), scores(**X)), np.random.default_rng(1)
    x_N, y_N = np.array(list(X.values())), np.array([Y[name] for name in X])
    slopes = []
    for _ in range(1000):
        pick_N = rng.integers(5, size=5)
        if np.ptp(x_N[pick_N]):
            slopes.append(np.polyfit(x_N[pick_N], y_N[pick_N], 1)[0])
    low, high = np.quantile(slopes, (0.025, 0.975))
    assert (result.slope.low, result.slope.high) == (pytest.approx(low, abs=0.15), pytest.approx(high, abs=0.15))


def test_datasets_on_a_line_have_an_interval_of_width_0():
    result = correlate_with_probe(scores(a=250, b=310, c=350), scores(a=500, b=620, c=700))
    assert (result.slope.low, result.slope.high) == (pytest.approx(0.5), pytest.approx(0.5))
    assert result.r.value == pytest.approx(1)


def test_scores_of_different_datasets_are_refused():
    with pytest.raises(DataError, match="'pets', which has no probe score"):
        subtract_probe_scores(scores(dtd=500, pets=900), scores(dtd=700))
    with pytest.raises(DataError, match="'pets', which has no zero-shot score"):
        correlate_with_probe(scores(dtd=500), scores(dtd=700, pets=900))
    with pytest.raises(DataError, match="at least 3"):
        correlate_with_probe(scores(a=1, b=2), scores(a=1, b=2))
    with pytest.raises(DataError, match="needs different accuracies"):
        correlate_with_probe(scores(a=1, b=2, c=3), scores(a=5, b=5, c=5))
