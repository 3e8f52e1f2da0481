"""The number of cores of this process."""

import os
from pathlib import Path

import pytest

from zebra.config import cores


def write_cgroup(root: Path, lines: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": lines, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")
    return root


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ("0::/docker/abc\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),  # a path outside of the container
        (
            "0::/user/job\n",
            {"sys/fs/cgroup/user/job/cpu.max": "max 100000\n", "sys/fs/cgroup/user/cpu.max": "300000 100000\n"},
            3.0,
        ),
        (
            "0::/user/job\n",
            {"sys/fs/cgroup/user/job/cpu.max": "50000 100000\n", "sys/fs/cgroup/user/cpu.max": "300000 100000\n"},
            0.5,
        ),
        (
            "2:cpu:/job\n1:cpuset:/\n0::/\n",
            {
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4.0,
        ),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "damaged\n"}, None),
        ("0::/\n", {}, None),
        ("", {}, None),
    ],
)
def test_the_limit_of_cpu_time_is_read_from_either_version_of_cgroups(
    tmp_path: Path, lines: str, files: dict[str, str], quota: float | None
) -> None:
    assert cores.cpu_quota(write_cgroup(tmp_path, lines, files)) == quota


def test_a_system_without_cgroups_has_no_limit_of_cpu_time(tmp_path: Path) -> None:
    assert cores.cpu_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "expected"), [(None, 4), (2.0, 2), (1.5, 2), (0.2, 1), (64.0, 4)])
def test_a_process_uses_the_smaller_of_its_cores_and_its_limit(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(cores, "usable_cpus", lambda: frozenset(range(4)))
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert cores.usable_cores() == expected


def test_only_cores_of_the_affinity_are_usable() -> None:
    assert len(cores.usable_cpus()) == len(os.sched_getaffinity(0))
