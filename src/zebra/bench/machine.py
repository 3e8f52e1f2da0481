"""This machine: processor, limits of the container, memory and versions."""

import os
import platform
from dataclasses import dataclass

import torch

from zebra import __version__
from zebra.config.cores import cpu_quota, usable_cpus
from zebra.config.memory import available_memory, total_memory
from zebra.config.processor import processor_name
from zebra.train.environment import package_version

SHOWN_INSTRUCTIONS = (
    *("avx2", "avx_vnni", "avx512_f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "neon", "asimddp", "i8mm", "bf16", "fphp", "sve", "sve2"),
)
"""Instruction sets that decide how fast number formats are, by torch's names."""
SHOWN_PACKAGES = ("torch", "onnxruntime", "open_clip_torch", "transformers", "numpy", "pillow")
SHOWN_VARIABLES = (
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"),
)
"""Environment variables that change the speed."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that was measured."""

    processor: str
    instruction_sets: tuple[str, ...]
    cores: int
    """Logical cores of the machine."""
    usable_cores: int
    """Cores in the CPU affinity of this process."""
    core_limit: float | None
    """Limit of CPU time of the container, in cores."""
    memory_bytes: int | None
    """Memory of the machine, or the limit of the container."""
    available_bytes: int | None
    load_average: float | None
    """Over the last minute, before the measurement."""
    device: str
    system: str
    python: str
    zebra: str
    packages: dict[str, str | None]
    """Package → version; None if it is not installed."""
    environment: dict[str, str]
    """Variables that are set and change the speed."""


def describe_machine(device: torch.device) -> Machine:
    """Describe this machine before a measurement."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return Machine(
        processor=processor_name(),
        instruction_sets=tuple(name for name in SHOWN_INSTRUCTIONS if capabilities.get(name)),
        cores=os.cpu_count() or 1,
        usable_cores=len(usable_cpus()),
        core_limit=cpu_quota(),
        memory_bytes=total_memory(),
        available_bytes=available_memory(),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        python=platform.python_version(),
        zebra=__version__,
        packages={name: package_version(name) for name in SHOWN_PACKAGES},
        environment={name: os.environ[name] for name in SHOWN_VARIABLES if os.environ.get(name)},
    )
