"""Peak memory of this process and of a GPU."""

from collections.abc import Callable
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def peak_resident_bytes() -> int | None:
    """Return the peak of the resident memory of this process; None on systems other than Linux."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        return None


def run_with_gpu_peak(run: Callable[[], object], device: torch.device) -> int | None:
    """Run a function and return by how many bytes the memory of a GPU grew at its peak; None for other devices."""
    if device.type != "cuda":
        run()
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before
