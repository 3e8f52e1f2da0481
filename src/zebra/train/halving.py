"""Successive halving of variants (Jamieson & Talwalkar 2016, arXiv 1502.07943)."""

import math
from dataclasses import dataclass
from pathlib import Path

MAX_HALVINGS = 3
"""The first comparison comes after an eighth of a run at the earliest; before, scores say little about the end."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One comparison: the best variants so far are trained up to a number of steps."""

    num_variants: int
    steps: int
    """Steps of each variant since its start."""


@dataclass(frozen=True, slots=True)
class VariantResult:
    """How far a variant came."""

    name: str
    run_dir: Path
    steps: int
    """Steps of its last comparison; 0 before the first one."""
    score: float | None
    """Mean validation score at that step; None without a comparison."""
    note: str = ""
    """Why it was stopped, if training diverged."""
    is_complete: bool = False
    """Whether the run has its full length and a model."""


def plan_rungs(num_variants: int, steps: int, eval_every: int) -> tuple[list[Rung], int]:
    """Return the rungs of a sweep and the interval of validations.

    Each rung has half of the variants of the one before and twice the steps; the last one has complete runs.

    Args:
        num_variants: At least 1.
        steps: Largest length of a run; it is rounded down so that every rung ends with a validation.
        eval_every: Wished interval of validations.
    """
    num_halvings = min(MAX_HALVINGS, math.ceil(math.log2(num_variants)), max(0, steps.bit_length() - 1))
    first_steps = steps // 2**num_halvings
    num_evals = max(1, round(first_steps / eval_every))
    interval = max(1, first_steps // num_evals)
    first_steps = interval * min(num_evals, first_steps)
    return [
        Rung(math.ceil(num_variants / 2**halving), first_steps * 2**halving) for halving in range(num_halvings + 1)
    ], interval


def count_steps(rungs: list[Rung]) -> int:
    """Return the steps of all variants together."""
    previous = [0, *(rung.steps for rung in rungs)]
    return sum(rung.num_variants * (rung.steps - before) for rung, before in zip(rungs, previous, strict=False))


def fit_budget(num_variants: int, budget: int) -> int:
    """Return the largest length of a run with which the sweep takes at most `budget` steps; 0 if there is none."""
    low, high = 0, budget
    while low < high:
        middle = (low + high + 1) // 2
        if count_steps(plan_rungs(num_variants, middle, middle)[0]) <= budget:
            low = middle
        else:
            high = middle - 1
    return low
