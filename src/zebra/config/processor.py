"""The name of the processor."""

import platform
from pathlib import Path


def processor_name() -> str:
    """Return the model of the processor; empty if the system does not name it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
