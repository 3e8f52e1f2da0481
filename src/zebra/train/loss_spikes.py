"""The losses of the steps in; word of a loss that shoots up and stays up out."""

from collections import deque
from collections.abc import Mapping
from statistics import fmean
from typing import Any

BASELINE_STEPS = 100
"""Steps that say what is normal."""
SPIKE_FACTOR = 2.0
MIN_SPIKE_MARGIN = 0.1
"""A loss counts as high above FACTOR times the normal mean, and MARGIN above it: near zero, doubling is noise."""
SPIKE_STEPS = 5
"""High losses in a row that make a spike; one bad batch makes none."""


class SpikeDetector:
    """Tells a spike from noise.

    In contrastive training a spike is what an optimizer with stale second moments leaves behind (Wortsman et al. 2023,
    arXiv 2304.13013); a smaller beta2 or learning rate prevents the next one.
    """

    def __init__(self) -> None:
        self._baseline: deque[float] = deque(maxlen=BASELINE_STEPS)
        self._num_high = 0

    def update(self, loss: float) -> bool:
        """Take in one step's loss; True at the PATIENCE-th high one in a row, once for each spike."""
        if len(self._baseline) == BASELINE_STEPS and loss > max(
            SPIKE_FACTOR * (mean := fmean(self._baseline)), mean + MIN_SPIKE_MARGIN
        ):
            self._num_high += 1
        else:
            self._num_high = 0
        if self._num_high == 0 or self._num_high > BASELINE_STEPS:  # what stays high is the new normal
            self._baseline.append(loss)
        return self._num_high == SPIKE_STEPS

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, ready for JSON."""
        return {"normal": list(self._baseline), "high": self._num_high}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state`."""
        self._baseline = deque(state["normal"], maxlen=BASELINE_STEPS)
        self._num_high = int(state["high"])
