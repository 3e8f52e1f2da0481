"""The learning rate as a pure function of the step (CLIP §2.5)."""

import math

from zebra.config.train import Schedule


def learning_rate(
    step: int, *, peak: float, warmup_steps: int, steps: int, schedule: Schedule = "cosine"
) -> float:
    """Rise linearly over the first `warmup_steps` steps, then fall towards 0.

    Args:
        step: 0-based index of the step about to be taken.
        peak: Largest learning rate.
        warmup_steps: Length of the rise; cut to `steps` when the run is shorter.
        steps: Length of the run.
        schedule: Whether it falls along a cosine, as in the paper, or along a line.
    """
    warmup_steps = min(warmup_steps, steps)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    if schedule == "linear":
        return peak * (1 - done)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
