"""Devices by name, what their hardware supports, and their errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from zebra.errors import ConfigError, DeviceError, DeviceLost

LOST_PATTERN = re.compile(r"CUDA|cuDNN|CUDNN|CUBLAS|HIP|hipErr|MPS|device-side|accelerator", re.IGNORECASE)
"""Words of torch's errors about a device that has failed; before torch.AcceleratorError, the text was all there was."""


def resolve_device(name: str) -> torch.device:
    """Return the device called cpu, cuda, cuda:N, mps or auto; ConfigError if it is not available."""
    return rank_devices(name)[0]


def rank_devices(name: str) -> list[torch.device]:
    """Return the devices that a name allows, the preferred one first; ConfigError if it is not available."""
    available = list_devices()
    if name == "auto":
        return [torch.device(kind) for kind in ("cuda", "mps", "cpu") if kind in available]
    if name not in available:
        raise ConfigError(f"device {name!r} is not available. Use one of: {', '.join([*available, 'auto'])}.")
    return [torch.device(name)]


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


def describe_device(device: torch.device) -> str:
    """Return a device with the name of its hardware, as "cuda:1 (Tesla T4)"."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


@contextmanager
def translate_device_errors(device: torch.device) -> Iterator[None]:
    """Raise DeviceLost for a device that fails in a block, and DeviceError for one with too little memory."""
    try:
        yield
    except RuntimeError as error:
        if device.type == "cpu" or isinstance(error, DeviceError):
            raise
        reason = str(error).partition("\n")[0]
        if isinstance(error, torch.OutOfMemoryError):
            raise DeviceError(
                f"{device} has too little memory: {reason} Use a smaller batch, end what else uses it, or use "
                "device='cpu'"
            ) from error
        if not LOST_PATTERN.search(reason):  # a mistake of the program
            raise
        raise DeviceLost(
            f"{device} stopped working: {reason}. Look for the cause in the system's log (dmesg, nvidia-smi), then run "
            "again, or use device='cpu'"
        ) from error


def has_native_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bf16; emulated bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def has_native_fp16(device: torch.device) -> bool:
    """Return whether the hardware multiplies fp16: GPUs, and processors with AVX512-FP16, AMX-FP16 or Arm's FP16."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type != "cpu" or any(capabilities.get(name) for name in ("avx512_fp16", "amx_fp16", "fphp", "fp16"))
