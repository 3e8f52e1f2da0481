"""The learning rate as a pure function of the step (CLIP §2.5)."""

import math


def learning_rate(step: int, *, peak: float, warmup_steps: int, steps: int) -> float:
    """Rise linearly over the first `warmup_steps` steps, then fall along a cosine towards 0.

    Args:
        step: 0-based index of the step about to be taken.
        peak: Largest learning rate.
        warmup_steps: Length of the rise; cut to `steps` when the run is shorter.
        steps: Length of the run.
    """
    warmup_steps = min(warmup_steps, steps)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
