"""The CPU cores available to this process, and the limit of workers."""

import math
import os
from pathlib import Path

from zebra.config.cgroups import iter_cgroup_dirs

MAX_WORKERS = 4096
"""Maximum number of workers of one process; more than the cores of any machine only take memory."""
_QUOTA_FILES = {"": ("cpu.max", None), "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us")}
"""Controller of a line of /proc/self/cgroup (version 2 has none) → files of its limit of CPU time and of the period."""


def usable_cores() -> int:
    """Return how many cores this process may use: its CPU affinity, or its cgroup's limit of CPU time if lower."""
    quota = cpu_quota()
    return len(usable_cpus()) if quota is None else max(1, min(len(usable_cpus()), math.ceil(quota)))


def usable_cpus() -> frozenset[int]:
    """Return the numbers of the cores on which the scheduler may run this process."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the limit of CPU time that containers (`docker --cpus`) and services set, in cores; None without one.

    Args:
        root: Root of the file system, for tests.
    """
    quotas = [
        _read_quota(directory, *_QUOTA_FILES[controller])
        for controller, directory in iter_cgroup_dirs(frozenset(_QUOTA_FILES), root)
    ]
    return min((quota for quota in quotas if quota is not None), default=None)


def _read_quota(directory: Path, quota_file: str, period_file: str | None) -> float | None:
    try:
        text = (directory / quota_file).read_text(encoding="ascii")
        if period_file is not None:
            text += (directory / period_file).read_text(encoding="ascii")
        quota, period = text.split()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such cgroup, or "max"
        return None
