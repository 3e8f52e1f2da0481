"""A spike is told from noise, once, wherever the run was resumed."""

import json

import numpy as np
import pytest

from zebra.train.loss_spikes import BASELINE_STEPS, SPIKE_STEPS, SpikeDetector


def fired(losses, detector=None):
    detector = detector or SpikeDetector()
    return [step for step, loss in enumerate(losses) if detector.update(loss)]


def normal(steps, seed=0):
    """A loss that falls from ln(64) towards 0.4 with the noise of a batch."""
    noise = np.random.default_rng(seed).normal(1, 0.1, steps)
    return ((0.4 + 3.76 * np.exp(-np.arange(steps) / 300)) * noise).tolist()


def test_a_loss_that_shoots_up_is_found_at_its_fifth_step():
    losses = normal(1000)
    losses[700:] = [3.0] * 300
    assert fired(losses) == [700 + SPIKE_STEPS - 1]


@pytest.mark.parametrize("length", [1, SPIKE_STEPS - 1])
def test_a_few_bad_batches_are_no_spike(length):
    losses = normal(1000)
    losses[700 : 700 + length] = [9.0] * length
    assert fired(losses) == []


def test_two_spikes_are_told_as_two():
    losses = normal(1000)
    losses[500:520] = [5.0] * 20
    losses[700:720] = [5.0] * 20
    assert fired(losses) == [504, 704]


def test_doubling_near_zero_is_noise():
    assert fired([0.001] * 500 + [0.05] * 500) == []


def test_the_first_steps_cannot_spike_since_nothing_is_normal_yet():
    assert fired([1.0] * (BASELINE_STEPS - 20) + [50.0] * 20) == []


def test_a_resumed_detector_fires_where_an_uninterrupted_one_does():
    losses = normal(800)
    losses[600:] = [4.0] * 200
    for cut in (300, 599, 602, 604, 606):
        first = SpikeDetector()
        before = fired(losses[:cut], first)
        second = SpikeDetector()
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert before + [cut + step for step in fired(losses[cut:], second)] == [604]
