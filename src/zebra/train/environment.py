"""Record versions, hardware and commit of a run for `environment.json`."""

import os
import platform
import subprocess
from importlib import metadata
from typing import Any

import torch

from zebra.config.processor import processor_name

RECORDED_PACKAGES = ("zebra-clip", "torch", "numpy", "pillow", "tokenizers", "safetensors", "pyarrow")


def collect_environment() -> dict[str, Any]:
    """Return interpreter, packages, processor, accelerator and the commit of the working directory."""
    return {
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in RECORDED_PACKAGES},
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": _git_commit(),
    }


def package_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit of the working directory; None outside a repository or without git."""
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
