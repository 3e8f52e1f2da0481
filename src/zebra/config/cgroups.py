"""Control groups of this process, which limit containers and services on Linux."""

from collections.abc import Iterator
from pathlib import Path


def iter_cgroup_dirs(controllers: frozenset[str], root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the controller and the directory of each control group of this process, parents included.

    All of their limits apply. Version 2 has one hierarchy, whose controller is "". Yields nothing on other systems.

    Args:
        controllers: Controllers that are looked for, such as {"", "cpu"}.
        root: Root of the file system, for tests.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        # A container may see its path outside, and its files at the mount point.
        parents = [each.lstrip("/") for each in (path, *map(str, Path(path).parents))]
        for controller in set(names.split(",")) & controllers:
            yield from ((controller, root / "sys/fs/cgroup" / controller / parent) for parent in parents)
