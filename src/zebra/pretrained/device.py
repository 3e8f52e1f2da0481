"""The name of a device in, the device out."""

import torch

from zebra.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Turn cpu, cuda, mps or auto into a device; ConfigError if it is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "mps" if there["mps"] else "cpu")
    if not there.get(name, False):
        usable = ", ".join(known for known, present in there.items() if present)
        raise ConfigError(f"device {name!r} is not available here; usable: {usable}, auto")
    return torch.device(name)
