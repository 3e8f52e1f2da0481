"""Precision of a training step: resolve `auto` and enter autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch

from zebra.config.train import TrainPrecision
from zebra.pretrained.device import has_native_bf16


def resolve_precision(precision: TrainPrecision, device: torch.device) -> TrainPrecision:
    """Resolve auto to bf16 if the hardware supports it natively, else to fp32; emulated bf16 is slower than fp32."""
    if precision != "auto":
        return precision
    return "bf16" if has_native_bf16(device) else "fp32"


def autocast(precision: TrainPrecision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context for the towers: bf16 autocast, or no effect for fp32."""
    assert precision != "auto"
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
