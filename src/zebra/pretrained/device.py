"""Devices by name, and what their hardware supports."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from zebra.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Return the device called cpu, cuda, cuda:N, mps or auto; ConfigError if it is not available."""
    available = list_devices()
    if name == "auto":
        return torch.device(next((kind for kind in ("cuda", "mps") if kind in available), "cpu"))
    if name not in available:
        raise ConfigError(f"device {name!r} is not available. Use one of: {', '.join([*available, 'auto'])}.")
    return torch.device(name)


@contextmanager
def use_device(name: str) -> Iterator[torch.device]:
    """Resolve a device and, if it is one of several GPUs, make it the current one, whose generator is saved."""
    device = resolve_device(name)
    with nullcontext() if device.index is None else torch.cuda.device(device):
        yield device


def list_devices() -> list[str]:
    """Return the names of the devices of this machine; "cuda" is the current one of those called cuda:N."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ["cpu", *(["cuda", *gpus] if gpus else []), *(["mps"] if torch.backends.mps.is_available() else [])]


def has_native_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bf16; emulated bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
