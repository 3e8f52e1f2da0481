"""Detect sustained loss spikes."""

from collections import deque
from collections.abc import Mapping
from statistics import fmean
from typing import Any

BASELINE_STEPS = 100
"""Steps whose mean loss is the baseline."""
SPIKE_FACTOR = 2.0
MIN_SPIKE_MARGIN = 0.1
"""A loss is high if it exceeds both SPIKE_FACTOR × the baseline and the baseline + MIN_SPIKE_MARGIN.

The margin ignores doubled losses near zero, which are noise.
"""
SPIKE_STEPS = 5
"""High losses in a row that make a spike; a single bad batch makes none."""


class SpikeDetector:
    """Detect losses that jump up and stay up.

    In contrastive training, such a spike follows from an optimizer with stale second moments (Wortsman et al. 2023,
    arXiv 2304.13013). A smaller beta2 or learning rate prevents the next one.
    """

    def __init__(self) -> None:
        self._baseline: deque[float] = deque(maxlen=BASELINE_STEPS)
        self._num_high = 0

    def update(self, loss: float) -> bool:
        """Add the loss of a step; return True at the SPIKE_STEPS-th high loss in a row, once per spike."""
        if len(self._baseline) == BASELINE_STEPS and loss > max(
            SPIKE_FACTOR * (mean := fmean(self._baseline)), mean + MIN_SPIKE_MARGIN
        ):
            self._num_high += 1
        else:
            self._num_high = 0
        if self._num_high == 0 or self._num_high > BASELINE_STEPS:  # a loss that stays high becomes the baseline
            self._baseline.append(loss)
        return self._num_high == SPIKE_STEPS

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, JSON-serializable."""
        return {"baseline": list(self._baseline), "num_high": self._num_high}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self._baseline = deque(state["baseline"], maxlen=BASELINE_STEPS)
        self._num_high = int(state["num_high"])
