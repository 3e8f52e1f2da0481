"""Joining of tensors that a layout stores apart."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zebra.errors import WeightsError


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Return the tensors joined along their first axis.

    Raises:
        WeightsError: Their shapes or types do not go together; torch promotes no 8-bit floats.
    """
    try:
        return torch.cat(list(parts))
    except RuntimeError as error:
        kinds = ", ".join(f"{str(part.dtype).removeprefix('torch.')} {list(part.shape)}" for part in parts)
        raise WeightsError(f"tensors that belong together do not fit ({kinds}). Download the weights again.") from error
