"""The number of CPU cores available to this process."""

import os


def usable_cores() -> int:
    """Return how many cores the scheduler may run this process on (its CPU affinity)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
