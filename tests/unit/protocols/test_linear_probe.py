"""The linear probe against scikit-learn's, and its search."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

from zebra.errors import DataError, ShapeError
from zebra.protocols import linear_probe as module
from zebra.protocols.linear_probe import LogisticSolver, fit_linear_probe, hold_out_validation
from zebra.values import Embeddings


def world(n, classes=4, width=8, seed=0, spread=1.0):
    """Make classes that overlap, on axes of very different length, far from the origin."""
    centre_CD = np.random.default_rng(99).normal(size=(classes, width))
    rng = np.random.default_rng(seed)
    label_N = np.arange(n) % classes
    vector_ND = centre_CD[label_N] + spread * rng.normal(size=(n, width))
    vector_ND = vector_ND * np.geomspace(3, 0.1, width) + np.linspace(-9, 9, width)
    return Embeddings(vector_ND.astype(np.float32), tuple(f"{seed}-{i}" for i in range(n)), label_N)


def peer(images, penalty):
    """Fit scikit-learn's from zero, to the end: its Newton solver has the objective of L-BFGS, and gets there."""
    newton = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-9)
    return newton.fit(images.vectors.astype(np.float64), images.labels)


@pytest.mark.parametrize("penalty", [1e5, 10.0, 0.1])
@pytest.mark.parametrize(("n", "width"), [(160, 8), (24, 40)], ids=["more vectors than numbers", "fewer"])
def test_weights_equal_scikit_learn(n, width, penalty):
    """To 3e-3 of the largest weight: float32, and a gradient of 1e-6. The worst is 2e-3, at the weakest penalty."""
    train = world(n, width=width)
    ours, theirs = LogisticSolver(train.vectors, train.labels, 4).fit(penalty), peer(train, penalty)
    assert ours.weight_CD == pytest.approx(theirs.coef_, rel=0, abs=3e-3 * np.abs(theirs.coef_).max())
    assert ours.bias_C == pytest.approx(theirs.intercept_, rel=0, abs=3e-3 * np.abs(theirs.intercept_).max())


def test_with_two_classes_the_weight_difference_equals_scikit_learn():
    """Its binary case has one row of weights, and penalises that one."""
    train = world(90, classes=2)
    ours, theirs = LogisticSolver(train.vectors, train.labels, 2).fit(5.0), peer(train, 5.0)
    assert ours.weight_CD[1] - ours.weight_CD[0] == pytest.approx(
        theirs.coef_[0], abs=1e-3 * np.abs(theirs.coef_).max()
    )


def test_a_fit_from_a_similar_probe_is_faster_and_ends_at_the_same_optimum():
    train = world(160)
    fits = LogisticSolver(train.vectors, train.labels, 4)
    cold, warm = fits.fit(1.0), fits.fit(1.0, fits.fit(1.5))
    assert warm.weight_CD == pytest.approx(cold.weight_CD, abs=1e-3 * np.abs(cold.weight_CD).max())
    assert warm.num_iterations < cold.num_iterations


def test_repeated_dimensions_do_not_disturb_the_fit():
    """Rounding makes their axes' squared lengths negative, by more than the weakest penalty adds."""
    train = world(160)
    twice_ND = np.tile(train.vectors * np.float32(1e5), 2)
    probe = LogisticSolver(twice_ND, train.labels, 4).fit(1e-6)
    assert probe.weight_CD[:, :8] == pytest.approx(probe.weight_CD[:, 8:], rel=1e-3)
    assert probe.evaluate(replace(train, vectors=twice_ND))[0] > 0.5


def test_a_fit_from_the_optimum_stays_there():
    train = world(160)
    fits = LogisticSolver(train.vectors, train.labels, 4)
    assert fits.fit(1.0, fits.fit(1.0)).num_iterations <= 1


def test_scaling_the_vectors_changes_neither_the_fit_nor_the_iterations():
    train = world(160)
    small = LogisticSolver(train.vectors, train.labels, 4).fit(1.0)
    large = LogisticSolver(train.vectors * np.float32(1024), train.labels, 4).fit(1024.0**2)
    assert large.weight_CD * 1024 == pytest.approx(
        small.weight_CD, rel=1e-3, abs=1e-3 * np.abs(small.weight_CD).max()
    )
    assert abs(large.num_iterations - small.num_iterations) <= 3


def test_the_block_size_does_not_change_the_fit(monkeypatch):
    train = world(160)
    whole = LogisticSolver(train.vectors, train.labels, 4).fit(1.0)
    monkeypatch.setattr(module, "VECTORS_PER_BLOCK", 7)
    parts = LogisticSolver(train.vectors, train.labels, 4).fit(1.0)
    assert parts.weight_CD == pytest.approx(whole.weight_CD, abs=1e-3 * np.abs(whole.weight_CD).max())
    assert np.array_equal(parts.classify(train).ranked_NK, whole.classify(train).ranked_NK)


def test_a_probe_is_evaluated_by_accuracy_and_log_loss():
    train, other = world(80), world(60, seed=1)
    theirs = peer(train, 1.0)
    accuracy, loss = LogisticSolver(train.vectors, train.labels, 4).fit(1.0).evaluate(other)
    assert accuracy == accuracy_score(other.labels, theirs.predict(other.vectors))
    assert loss == pytest.approx(log_loss(other.labels, theirs.predict_proba(other.vectors)), rel=1e-3)


@pytest.fixture(scope="module")
def sets():
    return world(160), world(80, seed=1), world(120, seed=2)


@pytest.fixture(scope="module")
def found(sets):
    train, validation, test = sets
    return fit_linear_probe(train, test, 4, validation=validation)


def test_the_search_starts_with_every_second_decade_from_strong_to_weak(found):
    tried = [trial.l2_penalty for trial in found.trials]
    assert tried[:7] == pytest.approx([1e6, 1e4, 1e2, 1, 1e-2, 1e-4, 1e-6])


def test_the_search_refines_around_the_best_down_to_8_steps_per_decade(found):
    step = [round(8 * np.log10(trial.l2_penalty)) for trial in found.trials]
    score = [(trial.accuracy, -trial.loss) for trial in found.trials]
    place = 7
    for reach in (8, 4, 2, 1):
        peak = step[max(range(place), key=lambda i: score[i])]
        around = [near for near in (peak + reach, peak - reach) if -48 <= near <= 48]
        assert step[place : place + len(around)] == around
        place += len(around)
    assert place == len(step)
    assert round(8 * np.log10(found.probe.l2_penalty)) == step[max(range(place), key=lambda i: score[i])]


def test_the_search_starts_each_fit_from_another(sets, found):
    train, _, _ = sets
    fits = LogisticSolver(train.vectors, train.labels, 4)
    cold = sum(fits.fit(trial.l2_penalty).num_iterations for trial in found.trials)
    assert sum(trial.num_iterations for trial in found.trials) < 0.9 * cold


def test_every_trial_has_the_accuracy_of_a_cold_fit_of_scikit_learn(sets, found):
    train, validation, _ = sets
    for trial in found.trials:
        if trial.l2_penalty > 1e-3:  # below, the optimum is too flat for float32
            theirs = accuracy_score(
                validation.labels, peer(train, trial.l2_penalty).predict(validation.vectors)
            )
            assert trial.accuracy == theirs


def test_the_final_fit_uses_training_and_validation_set(sets, found):
    train, validation, _ = sets
    both = replace(
        train,
        vectors=np.concatenate([train.vectors, validation.vectors]),
        labels=np.concatenate([train.labels, validation.labels]),
    )
    theirs = peer(both, found.probe.l2_penalty)
    assert found.probe.weight_CD == pytest.approx(theirs.coef_, abs=2e-3 * np.abs(theirs.coef_).max())


def test_the_test_accuracy_equals_scikit_learn(sets, found):
    _, _, test = sets
    score_NC = test.vectors @ found.probe.weight_CD.T + found.probe.bias_C
    assert np.array_equal(found.result.ranked_NK, np.argsort(-score_NC, axis=1))
    assert found.result.scores()["top1"].value == accuracy_score(test.labels, score_NC.argmax(axis=1))
    assert found.result.scores()["top1"].value > 0.5


def test_test_labels_change_only_the_score(sets, found):
    train, validation, test = sets
    other = fit_linear_probe(train, replace(test, labels=(test.labels + 1) % 4), 4, validation=validation)
    assert other.trials == found.trials
    assert np.array_equal(other.probe.weight_CD, found.probe.weight_CD)
    assert other.result.scores()["top1"].value < found.result.scores()["top1"].value


def test_two_classes_have_an_auc():
    outcome = fit_linear_probe(world(60, classes=2), world(60, classes=2, seed=2), 2).result
    assert outcome.scores()["roc_auc"].value > 0.9


def test_unconverged_fits_are_counted(sets, found, monkeypatch):
    train, validation, test = sets
    assert found.num_unconverged == 0
    monkeypatch.setattr(module, "MAX_ITERATIONS", 2)
    hasty = fit_linear_probe(train, test, 4, validation=validation)
    assert (
        hasty.num_unconverged
        == sum(trial.is_unconverged for trial in hasty.trials) + hasty.probe.is_unconverged
    )
    assert hasty.num_unconverged > 3
    assert all(trial.num_iterations <= 2 for trial in hasty.trials)


def test_a_class_without_an_example_is_named_and_never_predicted(sets):
    train, validation, test = sets
    result = fit_linear_probe(train, test, 6, validation=validation)
    assert result.absent_classes == (4, 5)
    assert set(result.result.ranked_NK[:, 0].tolist()) <= {0, 1, 2, 3}


def test_without_a_validation_set_a_fifth_of_each_class_is_held_out():
    images = replace(world(40), labels=np.repeat([0, 1, 2, 3], [1, 4, 10, 25]))
    rest, held = hold_out_validation(images, seed=0)
    assert np.bincount(held.labels).tolist() == [0, 1, 2, 5]
    assert sorted(rest.ids + held.ids) == sorted(images.ids)
    place = [images.ids.index(name) for name in held.ids]
    assert np.array_equal(held.vectors, images.vectors[place])
    assert np.array_equal(held.labels, images.labels[place])


def test_the_seed_decides_what_is_held_out():
    images = world(40)
    assert hold_out_validation(images, 0)[1].ids == hold_out_validation(images, 0)[1].ids
    assert hold_out_validation(images, 0)[1].ids != hold_out_validation(images, 1)[1].ids


def changed(images, row, value):
    vectors = images.vectors.copy()
    vectors[row, 3] = value
    return replace(images, vectors=vectors)


@pytest.mark.parametrize(
    ("train", "validation", "test", "message"),
    [
        (replace(world(8), labels=None), None, world(8), "training split has no labeled images"),
        (world(8), None, replace(world(8), labels=None), "test split has no labeled images"),
        (world(0), None, world(8), "training split has no labeled images"),
        (
            world(8, classes=5),
            None,
            world(8),
            "1 labels of the training split are outside the 4 classes .*, such as 4 of 0-4",
        ),
        (
            world(8),
            None,
            replace(world(8), labels=np.arange(8) - 1),
            "4 labels of the test split are outside .*, such as -1 of 0-0",
        ),
        (
            changed(world(8), 2, np.nan),
            None,
            world(8),
            "1 vectors of the training split contain NaN or infinity, such as that of 0-2",
        ),
        (
            world(8),
            changed(world(8), 5, np.inf),
            world(8),
            "vectors of the validation split contain NaN or infinity, such as that of 0-5",
        ),
        (
            world(8),
            None,
            changed(world(8), 5, -np.inf),
            "vectors of the test split contain NaN or infinity, such as that of 0-5",
        ),
        (world(8, classes=1), None, world(8), "all 7 training examples have class 0"),
        (world(4), None, world(8), "no class has two examples"),
    ],
)
def test_unusable_splits_are_refused(train, validation, test, message):
    with pytest.raises(DataError, match=message):
        fit_linear_probe(train, test, 4, validation=validation)


def test_splits_of_different_dimensions_are_refused():
    with pytest.raises(
        ShapeError, match="vectors of the test split have 9 dimensions, those of the training split 8"
    ):
        fit_linear_probe(world(8), world(8, width=9), 4)
    with pytest.raises(ShapeError, match="vectors of the validation split have 9 dimensions"):
        fit_linear_probe(world(8), world(8), 4, validation=world(8, width=9))
