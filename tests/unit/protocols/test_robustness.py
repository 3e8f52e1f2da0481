"""Tests of effective and relative robustness."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import linregress, t

from zebra.errors import DataError
from zebra.protocols.metrics import proportion
from zebra.protocols.robustness import (
    AVERAGE_SHIFT,
    average_scores,
    clip_accuracy,
    evaluate_robustness,
    fit_logit_line,
    subtract_scores,
)
from zebra.values import Score


def exact(value, n=10**9):
    """Return a score with an interval of width 0."""
    return Score(value, value, value, n)


def on_a_line(count=8, slope=1.3, intercept=-0.7, noise=0.0):
    standard = np.linspace(0.5, 0.85, count)
    away = np.random.default_rng(1).normal(size=count) * noise
    return standard, expit(slope * logit(standard) + intercept + away)


def measured(extra, noise=0.0):
    standard, shifted = on_a_line(noise=noise)
    models = {f"reference {i}": (exact(x), exact(y)) for i, (x, y) in enumerate(zip(standard, shifted, strict=True))}
    return {name: {"standard": pair[0], "shift": pair[1]} for name, pair in (models | extra).items()}


REFERENCES = [f"reference {i}" for i in range(8)]


def test_the_line_equals_scipy_on_the_logits():
    standard, shifted = on_a_line(noise=0.2)
    line = fit_logit_line([*map(exact, standard)], [*map(exact, shifted)])
    expected = linregress(logit(standard), logit(shifted))
    assert (line.fit.slope, line.fit.intercept) == (pytest.approx(expected.slope), pytest.approx(expected.intercept))


def test_the_band_has_students_t_with_the_standard_errors_of_scipy():
    """At a standard accuracy of 50% the logit is 0, and the band is the interval of the intercept."""
    standard, shifted = on_a_line(count=5, noise=0.2)
    line = fit_logit_line([*map(exact, standard)], [*map(exact, shifted)])
    expected = linregress(logit(standard), logit(shifted))
    low, high = line.confidence_band([0.5])
    half_width = t.ppf(0.975, 3) * expected.intercept_stderr
    assert logit(low[0]) == pytest.approx(expected.intercept - half_width)
    assert logit(high[0]) == pytest.approx(expected.intercept + half_width)


def test_the_interval_with_three_references_covers_the_true_robustness():
    """200 simulated studies of a model on the line."""
    rng, num_covered = np.random.default_rng(0), 0
    for _ in range(200):
        x = rng.uniform(-1, 2, 4)
        y = 0.9 * x - 0.6 + rng.normal(size=4) * [0.1, 0.1, 0.1, 0]
        models = {f"m{i}": {"standard": exact(expit(x[i])), "shift": exact(expit(y[i]))} for i in range(4)}
        (shift,) = evaluate_robustness(models, "standard", ["m0", "m1", "m2"], "m0")
        effective = shift.effective_robustness["m3"]
        num_covered += effective.low <= 0 <= effective.high
    assert 0.92 <= num_covered / 200 <= 0.99


def test_effective_robustness_is_the_difference_from_the_line():
    """The line is logit(y) = 1.3 logit(x) − 0.7; the accuracy of the model is 0.1 above it."""
    expected = expit(1.3 * logit(0.7) - 0.7)
    models = measured({"clip": (exact(0.7), exact(expected + 0.1))})
    (shift,) = evaluate_robustness(models, "standard", REFERENCES, "reference 0")
    assert shift.effective_robustness["clip"].value == pytest.approx(0.1)


def test_a_model_on_the_line_of_noisy_references_has_no_effective_robustness():
    models = measured({"plain": (exact(0.7), exact(float(expit(1.3 * logit(0.7) - 0.7))))}, noise=0.2)
    (shift,) = evaluate_robustness(models, "standard", REFERENCES, "reference 0")
    assert shift.effective_robustness["plain"].low < 0 < shift.effective_robustness["plain"].high


def test_relative_robustness_is_the_gain_over_the_baseline():
    """CLIP Fig. 13 on ImageNetV2: zero-shot CLIP 70.1, ResNet-101 64.3."""
    extra = {"clip": (exact(0.762), exact(0.701)), "ResNet-101": (exact(0.762), exact(0.643))}
    (shift,) = evaluate_robustness(measured(extra), "standard", REFERENCES, "ResNet-101")
    assert shift.relative_robustness["clip"].value == pytest.approx(0.058)
    assert shift.relative_robustness["ResNet-101"].value == 0


def test_reference_models_have_no_robustness():
    (shift,) = evaluate_robustness(measured({"clip": (exact(0.7), exact(0.7))}), "standard", REFERENCES, "reference 0")
    assert set(shift.effective_robustness) == set(shift.relative_robustness) == {"clip"}


def test_several_shifts_come_with_their_average():
    models = measured({"clip": (exact(0.7), exact(0.6))})
    models = {name: scores | {"other": exact(0.4)} for name, scores in models.items()}
    shifts = evaluate_robustness(models, "standard", REFERENCES, "reference 0")
    assert [shift.name for shift in shifts] == ["shift", "other", AVERAGE_SHIFT]
    assert shifts[2].shifted_scores["clip"].value == pytest.approx(0.5)


def test_uncertainty_of_the_line_widens_the_interval():
    extra = {"clip": (exact(0.7), exact(0.7))}
    widths = []
    for noise in (0.0, 0.3):
        (shift,) = evaluate_robustness(measured(extra, noise), "standard", REFERENCES, "reference 0")
        clip = shift.effective_robustness["clip"]
        widths.append((clip.value - clip.low, clip.high - clip.value))
    assert max(widths[0]) < 1e-6 < 0.01 < min(widths[1])


@pytest.mark.parametrize("which", [0, 1])
def test_few_images_in_either_dataset_widen_the_interval(which):
    few = [exact(0.7), exact(0.7)]
    few[which] = proportion(70, 100)
    (shift,) = evaluate_robustness(measured({"clip": tuple(few)}), "standard", REFERENCES, "reference 0")
    assert shift.effective_robustness["clip"].high - shift.effective_robustness["clip"].low > 0.1


def test_the_interval_of_a_difference_is_newcombes():
    """Newcombe 1998, table II, case (a), method 10: 56/70 − 48/80 has 0.0524 to 0.3339."""
    difference = subtract_scores(proportion(56, 70), proportion(48, 80))
    assert (difference.low, difference.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))


def test_the_interval_of_an_average_narrows_with_the_root_of_their_number():
    one = Score(0.5, 0.4, 0.6, 100)
    four = average_scores([one] * 4)
    assert (four.low, four.high, four.n) == (pytest.approx(0.45), pytest.approx(0.55), 400)


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))))
def test_clipping_keeps_the_accuracies_of_n_samples_in_order(case):
    first, second, n = case
    low, high = sorted((first, second))
    assert 0 < clip_accuracy(low / n, n) <= clip_accuracy(high / n, n) < 1
    assert (low < high) == (clip_accuracy(low / n, n) < clip_accuracy(high / n, n))
    if 0 < low < n:
        assert clip_accuracy(low / n, n) == low / n


def test_models_with_accuracy_0_or_1_have_finite_robustness():
    models = measured({"all": (proportion(50, 50), proportion(50, 50)), "none": (proportion(0, 50), proportion(0, 50))})
    models["reference 0"] = {"standard": proportion(25, 50), "shift": proportion(0, 50)}
    (shift,) = evaluate_robustness(models, "standard", REFERENCES, "reference 0")
    for score in shift.effective_robustness.values():
        assert np.isfinite([score.value, score.low, score.high]).all()
        assert score.low <= score.value <= score.high


def test_input_without_a_line_is_refused():
    models = measured({})
    with pytest.raises(DataError, match="different reference models; got 2"):
        evaluate_robustness(models, "standard", REFERENCES[:2], "reference 0")
    with pytest.raises(DataError, match="different reference models; got 2"):
        evaluate_robustness(models, "standard", [*REFERENCES[:2], "reference 0"], "reference 0")
    with pytest.raises(DataError, match=r"no accuracies for the model 'refrence 1'\. Did you mean 'reference 1'"):
        evaluate_robustness(models, "standard", ["refrence 1", *REFERENCES], "reference 0")
    with pytest.raises(DataError, match="'standart'"):
        evaluate_robustness(models, "standart", REFERENCES, "reference 0")
    with pytest.raises(DataError, match="'reference 3' has no accuracy on 'shift'"):
        lacking = models | {"reference 3": {"standard": exact(0.5)}}
        evaluate_robustness(lacking, "standard", REFERENCES, "reference 0")
    with pytest.raises(DataError, match="at least one shift"):
        alone = {name: {"standard": scores["standard"]} for name, scores in models.items()}
        evaluate_robustness(alone, "standard", REFERENCES, "reference 0")
    with pytest.raises(DataError, match="needs different accuracies"):
        fit_logit_line([exact(0.5)] * 3, [exact(0.5)] * 3)
