"""The arithmetic of a step: a precision's name in, the autocast context out."""

from contextlib import AbstractContextManager, nullcontext

import torch

from zebra.config.train import TrainPrecision
from zebra.pretrained.device import has_native_bf16


def resolve_precision(precision: TrainPrecision, device: torch.device) -> TrainPrecision:
    """Turn auto into bf16 where the hardware multiplies it natively, else into fp32; emulated bf16 is slower."""
    if precision != "auto":
        return precision
    return "bf16" if has_native_bf16(device) else "fp32"


def autocast(precision: TrainPrecision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context the towers run in: bf16 autocast, or nothing for fp32."""
    assert precision != "auto"
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
