"""Learning rate as a pure function of the step (CLIP §2.5)."""

import math

from zebra.config.train import Schedule

COOLDOWN_FRACTION = 0.2
"""Part of a run of the schedule constant-cooldown in which the learning rate falls."""


def learning_rate(
    step: int, *, peak_lr: float, warmup_steps: int, total_steps: int, schedule: Schedule = "cosine"
) -> float:
    """Return the learning rate of a step: linear warm-up, then the schedule, which ends near 0.

    Args:
        step: 0-based index of the step.
        peak_lr: Largest learning rate.
        warmup_steps: Length of the warm-up; at most `total_steps` is used.
        total_steps: Length of the run.
        schedule: cosine decays from the end of the warm-up. constant-cooldown stays at the peak and falls as
            1 - √progress in the last part of the run (Hägele et al. 2024, arXiv 2405.18392).
    """
    warmup_steps = min(warmup_steps, total_steps)
    if step < warmup_steps:
        return peak_lr * (step + 1) / warmup_steps
    if schedule == "cosine":
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return peak_lr * 0.5 * (1 + math.cos(math.pi * progress))
    cooldown_start = max(warmup_steps, total_steps - max(1, round(COOLDOWN_FRACTION * total_steps)))
    if step < cooldown_start:
        return peak_lr
    return peak_lr * (1 - math.sqrt((step - cooldown_start + 0.5) / (total_steps - cooldown_start)))
