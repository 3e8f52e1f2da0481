"""The losses of the steps in; word of a loss that shoots up and stays up out."""

from collections import deque
from collections.abc import Mapping
from statistics import fmean
from typing import Any

WINDOW = 100
"""Steps that say what is normal."""
FACTOR = 2.0
MARGIN = 0.1
"""A loss counts as high above FACTOR times the normal mean, and MARGIN above it: near zero, doubling is noise."""
PATIENCE = 5
"""High losses in a row that make a spike; one bad batch makes none."""


class SpikeDetector:
    """Tells a spike from noise.

    In contrastive training a spike is what an optimizer with stale second moments leaves behind (Wortsman et al. 2023,
    arXiv 2304.13013); a smaller beta2 or learning rate prevents the next one.
    """

    def __init__(self) -> None:
        self._normal: deque[float] = deque(maxlen=WINDOW)
        self._high = 0

    def add(self, loss: float) -> bool:
        """Take in one step's loss; True at the PATIENCE-th high one in a row, once for each spike."""
        if len(self._normal) == WINDOW and loss > max(FACTOR * (mean := fmean(self._normal)), mean + MARGIN):
            self._high += 1
        else:
            self._high = 0
        if self._high == 0 or self._high > WINDOW:  # what stays high is the new normal
            self._normal.append(loss)
        return self._high == PATIENCE

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, ready for JSON."""
        return {"normal": list(self._normal), "high": self._high}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state`."""
        self._normal = deque(state["normal"], maxlen=WINDOW)
        self._high = int(state["high"])
