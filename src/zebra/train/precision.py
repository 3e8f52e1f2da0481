"""The arithmetic of a step: a precision's name in, the autocast context out."""

from contextlib import AbstractContextManager, nullcontext

import torch

from zebra.config.train import Precision


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context the towers run in: bf16 autocast, or nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
