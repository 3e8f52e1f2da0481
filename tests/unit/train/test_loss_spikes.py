"""Loss spikes: detected once each, not confused with noise, and independent of resuming."""

import json

import numpy as np
import pytest

from zebra.train.loss_spikes import BASELINE_STEPS, SPIKE_STEPS, SpikeDetector


def detected_steps(losses, detector=None):
    detector = detector or SpikeDetector()
    return [step for step, loss in enumerate(losses) if detector.update(loss)]


def typical_losses(steps, seed=0):
    """Return losses that fall from ln(64) towards 0.4 with the noise of batches."""
    noise = np.random.default_rng(seed).normal(1, 0.1, steps)
    return ((0.4 + 3.76 * np.exp(-np.arange(steps) / 300)) * noise).tolist()


def test_a_sustained_jump_is_detected_at_its_fifth_step():
    losses = typical_losses(1000)
    losses[700:] = [3.0] * 300
    assert detected_steps(losses) == [700 + SPIKE_STEPS - 1]


@pytest.mark.parametrize("length", [1, SPIKE_STEPS - 1])
def test_a_few_bad_batches_are_not_a_spike(length):
    losses = typical_losses(1000)
    losses[700 : 700 + length] = [9.0] * length
    assert detected_steps(losses) == []


def test_two_spikes_are_detected_separately():
    losses = typical_losses(1000)
    losses[500:520] = [5.0] * 20
    losses[700:720] = [5.0] * 20
    assert detected_steps(losses) == [504, 704]


def test_a_doubled_loss_near_zero_is_noise():
    assert detected_steps([0.001] * 500 + [0.05] * 500) == []


def test_the_first_steps_have_no_baseline_and_no_spike():
    assert detected_steps([1.0] * (BASELINE_STEPS - 20) + [50.0] * 20) == []


def test_a_resumed_detector_detects_a_spike_at_the_same_step():
    losses = typical_losses(800)
    losses[600:] = [4.0] * 200
    for cut in (300, 599, 602, 604, 606):
        first = SpikeDetector()
        before = detected_steps(losses[:cut], first)
        second = SpikeDetector()
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert before + [cut + step for step in detected_steps(losses[cut:], second)] == [604]
