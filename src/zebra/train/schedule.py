"""Learning rate as a pure function of the step (CLIP §2.5)."""

import math


def learning_rate(step: int, *, peak_lr: float, warmup_steps: int, total_steps: int) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine decay towards 0.

    Args:
        step: 0-based index of the step.
        peak_lr: Largest learning rate.
        warmup_steps: Length of the warm-up; at most `total_steps` is used.
        total_steps: Length of the run.
    """
    warmup_steps = min(warmup_steps, total_steps)
    if step < warmup_steps:
        return peak_lr * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak_lr * 0.5 * (1 + math.cos(math.pi * progress))
