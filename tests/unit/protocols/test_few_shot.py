"""Tests of few-shot probes and their comparison with zero-shot."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import linregress, pearsonr, t

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
    assert points[-1].mean_accuracy().value > points[0].mean_accuracy().value + 0.05
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


def test_draws_that_differ_widen_the_interval_by_students_t():
    """Of many images, only the draws are uncertain: Wilson's interval with the variance and quantile of three draws."""
    shares, hundred_N = (0.44, 0.5, 0.56), np.arange(100_000) % 100
    results = [
        ClassificationResult((hundred_N >= round(100 * share))[:, None].astype(int), np.zeros(100_000, int), 2)
        for share in shares
    ]
    score = FewShotResult(4, tuple(results), 0).mean_accuracy()
    variance, quantile = np.var(shares, ddof=1) / 3, t.ppf(0.975, 2)
    assert score.value == pytest.approx(0.5)
    for end in (score.low, score.high):
        assert abs(end - 0.5) == pytest.approx(quantile * np.sqrt(variance * end * (1 - end) / 0.25), rel=0.02)


def test_equal_draws_have_the_interval_of_the_images():
    score, one = FewShotResult(4, (make_result(50),) * 3, 0).mean_accuracy(), proportion(50, 100)
    assert (score.low, score.high) == (pytest.approx(one.low, abs=1e-3), pytest.approx(one.high, abs=1e-3))
    assert score.n == 100
    certain = FewShotResult(4, (make_result(100),) * 3, 0).mean_accuracy()
    assert certain == proportion(100, 100)


def test_an_interval_stays_inside_0_and_1():
    score = FewShotResult(4, (make_result(0), make_result(50), make_result(100)), 0).mean_accuracy()
    assert 0 <= score.low < 0.05
    assert 0.95 < score.high <= 1


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


def test_the_intervals_are_those_of_students_t_and_of_fisher():
    result, x_N, y_N = correlate_with_probe(scores(**Y), scores(**X)), list(X.values()), [Y[name] for name in X]
    line, interval = linregress(x_N, y_N), pearsonr(x_N, y_N).confidence_interval(0.95)
    assert result.slope.high - line.slope == pytest.approx(t.ppf(0.975, 3) * line.stderr)
    assert (result.r.low, result.r.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    three = correlate_with_probe(scores(a=1, b=2, c=4), scores(a=1, b=3, c=4))
    assert (three.r.low, three.r.high) == (-1, 1)


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
