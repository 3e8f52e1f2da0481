"""Devices by name, and what their hardware supports."""

import torch

from zebra.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Return the device called cpu, cuda, mps or auto; ConfigError if it is not available."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "mps" if available["mps"] else "cpu")
    if not available.get(name, False):
        usable = ", ".join(known for known, is_available in available.items() if is_available)
        raise ConfigError(f"device {name!r} is not available. Use one of: {usable}, auto.")
    return torch.device(name)


def has_native_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bf16; emulated bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
