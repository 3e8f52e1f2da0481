"""Tests of the linear probe and its search against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

from zebra.errors import DataError, ShapeError
from zebra.protocols import linear_probe as module
from zebra.protocols.linear_probe import LogisticSolver, fit_linear_probe, hold_out_validation
from zebra.values import Embeddings


def make_embeddings(n, classes=4, dim=8, seed=0, spread=1.0):
    """Return overlapping classes on axes of very different scale, far from the origin."""
    center_CD = np.random.default_rng(99).normal(size=(classes, dim))
    rng = np.random.default_rng(seed)
    label_N = np.arange(n) % classes
    vector_ND = center_CD[label_N] + spread * rng.normal(size=(n, dim))
    vector_ND = vector_ND * np.geomspace(3, 0.1, dim) + np.linspace(-9, 9, dim)
    return Embeddings(vector_ND.astype(np.float32), tuple(f"{seed}-{i}" for i in range(n)), label_N)


def fit_sklearn(images, penalty):
    """Fit scikit-learn's Newton solver, which has the objective of L-BFGS and reaches the optimum."""
    newton = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-9)
    return newton.fit(images.vectors.astype(np.float64), images.labels)


@pytest.mark.parametrize("penalty", [1e5, 10.0, 0.1])
@pytest.mark.parametrize(("n", "dim"), [(160, 8), (24, 40)], ids=["more vectors than dimensions", "fewer"])
def test_weights_equal_scikit_learn(n, dim, penalty):
    """The tolerance is for float32 and a gradient of 1e-6; the largest error is 2e-3, at the weakest penalty."""
    train = make_embeddings(n, dim=dim)
    probe, expected = LogisticSolver(train.vectors, train.labels, 4).fit(penalty), fit_sklearn(train, penalty)
    assert probe.weight_CD == pytest.approx(expected.coef_, rel=0, abs=3e-3 * np.abs(expected.coef_).max())
    assert probe.bias_C == pytest.approx(expected.intercept_, rel=0, abs=3e-3 * np.abs(expected.intercept_).max())


def test_with_two_classes_the_weight_difference_equals_scikit_learn():
    """In the binary case, scikit-learn has one row of weights and penalizes it."""
    train = make_embeddings(90, classes=2)
    probe, expected = LogisticSolver(train.vectors, train.labels, 2).fit(5.0), fit_sklearn(train, 5.0)
    assert probe.weight_CD[1] - probe.weight_CD[0] == pytest.approx(
        expected.coef_[0], abs=1e-3 * np.abs(expected.coef_).max()
    )


def test_a_fit_from_a_similar_probe_is_faster_and_ends_at_the_same_optimum():
    train = make_embeddings(160)
    solver = LogisticSolver(train.vectors, train.labels, 4)
    cold, warm = solver.fit(1.0), solver.fit(1.0, solver.fit(1.5))
    assert warm.weight_CD == pytest.approx(cold.weight_CD, abs=1e-3 * np.abs(cold.weight_CD).max())
    assert warm.num_iterations < cold.num_iterations


def test_repeated_dimensions_do_not_disturb_the_fit():
    """Rounding makes their eigenvalues negative, by more than the weakest penalty adds."""
    train = make_embeddings(160)
    repeated_ND = np.tile(train.vectors * np.float32(1e5), 2)
    probe = LogisticSolver(repeated_ND, train.labels, 4).fit(1e-6)
    assert probe.weight_CD[:, :8] == pytest.approx(probe.weight_CD[:, 8:], rel=1e-3)
    assert probe.evaluate(replace(train, vectors=repeated_ND))[0] > 0.5


def test_a_fit_from_the_optimum_stays_there():
    train = make_embeddings(160)
    solver = LogisticSolver(train.vectors, train.labels, 4)
    assert solver.fit(1.0, solver.fit(1.0)).num_iterations <= 1


def test_scaling_the_vectors_changes_neither_the_fit_nor_the_iterations():
    train = make_embeddings(160)
    small = LogisticSolver(train.vectors, train.labels, 4).fit(1.0)
    large = LogisticSolver(train.vectors * np.float32(1024), train.labels, 4).fit(1024.0**2)
    assert large.weight_CD * 1024 == pytest.approx(small.weight_CD, rel=1e-3, abs=1e-3 * np.abs(small.weight_CD).max())
    assert abs(large.num_iterations - small.num_iterations) <= 3


def test_the_block_size_does_not_change_the_fit(monkeypatch):
    train = make_embeddings(160)
    full = LogisticSolver(train.vectors, train.labels, 4).fit(1.0)
    monkeypatch.setattr(module, "VECTORS_PER_BLOCK", 7)
    parts = LogisticSolver(train.vectors, train.labels, 4).fit(1.0)
    assert parts.weight_CD == pytest.approx(full.weight_CD, abs=1e-3 * np.abs(full.weight_CD).max())
    assert np.array_equal(parts.classify(train).ranked_NK, full.classify(train).ranked_NK)


def test_a_probe_is_evaluated_by_accuracy_and_log_loss():
    train, other = make_embeddings(80), make_embeddings(60, seed=1)
    expected = fit_sklearn(train, 1.0)
    accuracy, loss = LogisticSolver(train.vectors, train.labels, 4).fit(1.0).evaluate(other)
    assert accuracy == accuracy_score(other.labels, expected.predict(other.vectors))
    assert loss == pytest.approx(log_loss(other.labels, expected.predict_proba(other.vectors)), rel=1e-3)


@pytest.fixture(scope="module")
def splits():
    return make_embeddings(160), make_embeddings(80, seed=1), make_embeddings(120, seed=2)


@pytest.fixture(scope="module")
def result(splits):
    train, validation, test = splits
    return fit_linear_probe(train, test, 4, validation=validation)


def test_the_search_starts_with_every_second_decade_from_strong_to_weak(result):
    penalties = [trial.l2_penalty for trial in result.trials]
    assert penalties[:7] == pytest.approx([1e6, 1e4, 1e2, 1, 1e-2, 1e-4, 1e-6])


def test_the_search_refines_around_the_best_down_to_8_steps_per_decade(result):
    step = [round(8 * np.log10(trial.l2_penalty)) for trial in result.trials]
    score = [(trial.accuracy, -trial.loss) for trial in result.trials]
    index = 7
    for distance in (8, 4, 2, 1):
        center = step[max(range(index), key=lambda i: score[i])]
        neighbors = [step_index for step_index in (center + distance, center - distance) if -48 <= step_index <= 48]
        assert step[index : index + len(neighbors)] == neighbors
        index += len(neighbors)
    assert index == len(step)
    assert round(8 * np.log10(result.probe.l2_penalty)) == step[max(range(index), key=lambda i: score[i])]


def test_the_search_starts_each_fit_from_another(splits, result):
    train, _, _ = splits
    solver = LogisticSolver(train.vectors, train.labels, 4)
    cold = sum(solver.fit(trial.l2_penalty).num_iterations for trial in result.trials)
    assert sum(trial.num_iterations for trial in result.trials) < 0.9 * cold


def test_every_trial_has_the_accuracy_of_a_cold_fit_of_scikit_learn(splits, result):
    train, validation, _ = splits
    for trial in result.trials:
        if trial.l2_penalty > 1e-3:  # for weaker penalties, float32 cannot resolve the optimum
            expected = accuracy_score(
                validation.labels, fit_sklearn(train, trial.l2_penalty).predict(validation.vectors)
            )
            assert trial.accuracy == expected


def test_the_final_fit_uses_training_and_validation_set(splits, result):
    train, validation, _ = splits
    combined = replace(
        train,
        vectors=np.concatenate([train.vectors, validation.vectors]),
        labels=np.concatenate([train.labels, validation.labels]),
    )
    expected = fit_sklearn(combined, result.probe.l2_penalty)
    assert result.probe.weight_CD == pytest.approx(expected.coef_, abs=2e-3 * np.abs(expected.coef_).max())


def test_the_test_accuracy_equals_scikit_learn(splits, result):
    _, _, test = splits
    score_NC = test.vectors @ result.probe.weight_CD.T + result.probe.bias_C
    assert np.array_equal(result.result.ranked_NK, np.argsort(-score_NC, axis=1))
    assert result.result.scores()["top1"].value == accuracy_score(test.labels, score_NC.argmax(axis=1))
    assert result.result.scores()["top1"].value > 0.5


def test_test_labels_change_only_the_score(splits, result):
    train, validation, test = splits
    other = fit_linear_probe(train, replace(test, labels=(test.labels + 1) % 4), 4, validation=validation)
    assert other.trials == result.trials
    assert np.array_equal(other.probe.weight_CD, result.probe.weight_CD)
    assert other.result.scores()["top1"].value < result.result.scores()["top1"].value


def test_two_classes_have_an_auc():
    result = fit_linear_probe(make_embeddings(60, classes=2), make_embeddings(60, classes=2, seed=2), 2).result
    assert result.scores()["roc_auc"].value > 0.9


def test_unconverged_fits_are_counted(splits, result, monkeypatch):
    train, validation, test = splits
    assert result.num_unconverged == 0
    monkeypatch.setattr(module, "MAX_ITERATIONS", 2)
    limited = fit_linear_probe(train, test, 4, validation=validation)
    assert (
        limited.num_unconverged == sum(trial.is_unconverged for trial in limited.trials) + limited.probe.is_unconverged
    )
    assert limited.num_unconverged > 3
    assert all(trial.num_iterations <= 2 for trial in limited.trials)


def test_a_class_without_an_example_is_named_and_never_predicted(splits):
    train, validation, test = splits
    result = fit_linear_probe(train, test, 6, validation=validation)
    assert result.absent_classes == (4, 5)
    assert set(result.result.ranked_NK[:, 0].tolist()) <= {0, 1, 2, 3}


def test_without_a_validation_set_a_fifth_of_each_class_is_held_out():
    images = replace(make_embeddings(40), labels=np.repeat([0, 1, 2, 3], [1, 4, 10, 25]))
    rest, validation = hold_out_validation(images, seed=0)
    assert np.bincount(validation.labels).tolist() == [0, 1, 2, 5]
    assert sorted(rest.ids + validation.ids) == sorted(images.ids)
    index = [images.ids.index(name) for name in validation.ids]
    assert np.array_equal(validation.vectors, images.vectors[index])
    assert np.array_equal(validation.labels, images.labels[index])


def test_the_seed_decides_what_is_held_out():
    images = make_embeddings(40)
    assert hold_out_validation(images, 0)[1].ids == hold_out_validation(images, 0)[1].ids
    assert hold_out_validation(images, 0)[1].ids != hold_out_validation(images, 1)[1].ids


def replace_value(images, row, value):
    vectors = images.vectors.copy()
    vectors[row, 3] = value
    return replace(images, vectors=vectors)


@pytest.mark.parametrize(
    ("train", "validation", "test", "message"),
    [
        (replace(make_embeddings(8), labels=None), None, make_embeddings(8), "training split has no labeled images"),
        (make_embeddings(8), None, replace(make_embeddings(8), labels=None), "test split has no labeled images"),
        (make_embeddings(0), None, make_embeddings(8), "training split has no labeled images"),
        (
            make_embeddings(8, classes=5),
            None,
            make_embeddings(8),
            "1 labels of the training split are outside the 4 classes .*, such as 4 of 0-4",
        ),
        (
            make_embeddings(8),
            None,
            replace(make_embeddings(8), labels=np.arange(8) - 1),
            "4 labels of the test split are outside .*, such as -1 of 0-0",
        ),
        (
            replace_value(make_embeddings(8), 2, np.nan),
            None,
            make_embeddings(8),
            "1 vectors of the training split contain NaN or infinity, such as that of 0-2",
        ),
        (
            make_embeddings(8),
            replace_value(make_embeddings(8), 5, np.inf),
            make_embeddings(8),
            "vectors of the validation split contain NaN or infinity, such as that of 0-5",
        ),
        (
            make_embeddings(8),
            None,
            replace_value(make_embeddings(8), 5, -np.inf),
            "vectors of the test split contain NaN or infinity, such as that of 0-5",
        ),
        (make_embeddings(8, classes=1), None, make_embeddings(8), "all 7 training examples have class 0"),
        (make_embeddings(4), None, make_embeddings(8), "no class has two examples"),
    ],
)
def test_unusable_splits_are_refused(train, validation, test, message):
    with pytest.raises(DataError, match=message):
        fit_linear_probe(train, test, 4, validation=validation)


def test_splits_of_different_dimensions_are_refused():
    with pytest.raises(ShapeError, match="vectors of the test split have 9 dimensions, those of the training split 8"):
        fit_linear_probe(make_embeddings(8), make_embeddings(8, dim=9), 4)
    with pytest.raises(ShapeError, match="vectors of the validation split have 9 dimensions"):
        fit_linear_probe(make_embeddings(8), make_embeddings(8), 4, validation=make_embeddings(8, dim=9))
