"""The memory that this process may use."""

import os
from pathlib import Path

from zebra.config.cgroups import iter_cgroup_dirs

_LIMIT_FILES = {"": "memory.max", "memory": "memory.limit_in_bytes"}
_USAGE_FILES = {"": "memory.current", "memory": "memory.usage_in_bytes"}
"""Controller → file of the limit and of the use; version 2 has no name of a controller."""


def total_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of this machine, or the limit of its container if lower; None if they are unknown.

    Args:
        root: Root of the file system, for tests.
    """
    sizes = [_machine_bytes(root), *(limit for limit, _ in _cgroup_limits(root))]
    return min((size for size in sizes if size is not None), default=None)


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process can still use without swapping, in its container too; None if unknown.

    Args:
        root: Root of the file system, for tests.
    """
    sizes = [_read_meminfo("MemAvailable", root), *(max(0, limit - used) for limit, used in _cgroup_limits(root))]
    return min((size for size in sizes if size is not None), default=None)


def _machine_bytes(root: Path) -> int | None:
    size = _read_meminfo("MemTotal", root)
    if size is not None or "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return size
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS


def _read_meminfo(name: str, root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _cgroup_limits(root: Path) -> list[tuple[int, int]]:
    """Return the limit and the use of each control group with a limit; file pages that can be dropped are free."""
    limits = []
    for controller, directory in iter_cgroup_dirs(frozenset(_LIMIT_FILES), root):
        try:
            limit = int((directory / _LIMIT_FILES[controller]).read_text(encoding="ascii"))
            used = int((directory / _USAGE_FILES[controller]).read_text(encoding="ascii"))
            statistics = dict(line.split() for line in (directory / "memory.stat").read_text("ascii").splitlines())
        except (OSError, ValueError):  # no such group, or "max"
            continue
        limits.append((limit, max(0, used - int(statistics.get("inactive_file", 0)))))
    return limits
