"""The memory that this process may use."""

from pathlib import Path

import pytest

from zebra.config.memory import available_memory, total_memory

MEMINFO = "MemTotal: 4000 kB\nMemFree: 100 kB\nMemAvailable: 3000 kB\n"


def write_files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")
    return root


def group(directory: str, limit: str, used: int, files: int) -> dict[str, str]:
    return {
        f"{directory}/memory.max": f"{limit}\n",
        f"{directory}/memory.current": f"{used}\n",
        f"{directory}/memory.stat": f"anon {used - files}\ninactive_file {files}\n",
    }


@pytest.mark.parametrize(
    ("files", "total", "available"),
    [
        ({}, 4000 * 1024, 3000 * 1024),
        (group("sys/fs/cgroup", "max", 100, 0), 4000 * 1024, 3000 * 1024),
        (group("sys/fs/cgroup", "5000", 2000, 500), 5000, 3500),  # file pages can be dropped
        (group("sys/fs/cgroup", "5000", 6000, 0), 5000, 0),  # the limit was lowered below the use
        (group("sys/fs/cgroup/job", "5000", 100, 0) | group("sys/fs/cgroup", "9000", 8000, 0), 5000, 1000),
        ({"sys/fs/cgroup/memory.max": "5000\n"}, 4000 * 1024, 3000 * 1024),  # its use is unknown
        (
            {
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "7000\n",
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "1000\n",
                "sys/fs/cgroup/memory/job/memory.stat": "cache 900\n",
            },
            7000,
            6000,
        ),
    ],
)
def test_the_smallest_limit_of_machine_and_container_counts(
    tmp_path: Path, files: dict[str, str], total: int, available: int
) -> None:
    groups = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "3:memory:/job\n0::/job\n"}
    root = write_files(tmp_path, groups | files)
    assert (total_memory(root), available_memory(root)) == (total, available)


@pytest.mark.parametrize("meminfo", ["", "MemAvailable:\n", "MemAvailable: much kB\n"])
def test_memory_that_cannot_be_read_is_unknown(tmp_path: Path, meminfo: str) -> None:
    assert available_memory(write_files(tmp_path, {"proc/meminfo": meminfo})) is None
    assert available_memory(tmp_path / "no system") is None
