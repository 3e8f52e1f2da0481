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


def has_native_bf16(device: torch.device) -> bool:
    """Say whether the hardware multiplies bf16 natively; emulated, it is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
