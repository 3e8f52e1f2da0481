"""Timing of tasks that take turns.

A slow phase of the machine then affects all of them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from zebra.pretrained.shared_cores import ThreadWaiting

MIN_ROUNDS = 2
MAX_ROUNDS = 9


@dataclass(frozen=True, slots=True)
class Timing:
    """One run of a task."""

    seconds: float
    cpu_seconds: float
    """CPU time of all threads of this process."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """The timings of all tasks."""

    timings: Mapping[str, list[Timing]]
    """Task → one timing per round."""
    waiting: float
    """Median over the rounds of the largest fraction of the time in which a thread waited for a core; 0 if unknown."""

    @property
    def number(self) -> int:
        """Number of rounds."""
        return len(next(iter(self.timings.values())))

    def seconds(self, task: str, *, by_cpu_time: bool) -> NDArray[np.float64]:
        """Return the seconds, or CPU-seconds, of a task in each round."""
        timings = self.timings[task]
        seconds = [timing.cpu_seconds if by_cpu_time else timing.seconds for timing in timings]
        return np.maximum(seconds, 1e-9)


def time_once(run: Callable[[], object]) -> Timing:
    """Time one run."""
    start, cpu_start = time.perf_counter(), time.process_time()
    run()
    return Timing(time.perf_counter() - start, time.process_time() - cpu_start)


def run_rounds(tasks: Mapping[str, Callable[[], object]], seconds: float) -> Rounds:
    """Run all tasks in turn, in alternating order, until the time is used up; at least MIN_ROUNDS rounds.

    Run each task once before, so that no round pays for caches and memory.
    """
    timings: dict[str, list[Timing]] = {name: [] for name in tasks}
    waiting, fractions = ThreadWaiting(), []
    start = time.perf_counter()
    for number in range(MAX_ROUNDS):
        for name in reversed(list(tasks)) if number % 2 else tasks:
            timings[name].append(time_once(tasks[name]))
        fractions.append(waiting.largest_fraction())
        elapsed = time.perf_counter() - start
        if number + 1 >= MIN_ROUNDS and elapsed + elapsed / (number + 1) > seconds:
            break
    return Rounds(timings, median(fractions))
