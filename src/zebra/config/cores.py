"""The number of CPU cores available to this process, and the limit of workers."""

import os

MAX_WORKERS = 4096
"""Maximum number of workers of one process; more than the cores of any machine only take memory."""


def usable_cores() -> int:
    """Return how many cores the scheduler may run this process on (its CPU affinity)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
