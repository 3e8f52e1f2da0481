"""Weights on disk under their published names: a model in, tensors out, and back."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zebra.config.model import ModelConfig, ResNetConfig
from zebra.errors import WeightsError, suggest_name
from zebra.models import CLIP

TEXT_PREFIX = "text."
BATCH_COUNTER_SUFFIX = "num_batches_tracked"
"""Ends the names of batch norm's step counters, which inference never reads: they may be absent."""

INIT_FUNCTIONS = {
    Tensor.normal_,
    Tensor.uniform_,
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.kaiming_uniform_,
    nn.init.xavier_uniform_,
}
"""What fills weights with random numbers."""


def published_state_dict(model: CLIP) -> dict[str, Tensor]:
    """Return every parameter and buffer; the text tower's prefix is dropped, as in the published files."""
    return {
        name.removeprefix(TEXT_PREFIX): value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }


def save_weights(model: CLIP, path: Path) -> None:
    """Write a model as safetensors."""
    save_file(published_state_dict(model), path, metadata={"format": "pt"})


class _SkipInit(TorchFunctionMode):
    """Leaves out drawing initial weights; on the meta device that would import half of torch's compiler."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return the tensor that was to be filled."""
        kwargs = kwargs or {}
        if func in INIT_FUNCTIONS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_model(config: ModelConfig, tensors: Mapping[str, Tensor], where: str) -> CLIP:
    """Make the model of a config out of tensors under their published names.

    The towers take the tensors themselves: what is memory-mapped stays so, and nothing is initialised only to be
    overwritten. Halves are widened to fp32.

    Args:
        where: Names the file in errors.

    Raises:
        WeightsError: A tensor is missing, left over, of another shape, or not of floating type.
    """
    with torch.device("meta"), _SkipInit():
        model = CLIP(config)
    expected = {name.removeprefix(TEXT_PREFIX): (name, value) for name, value in model.state_dict().items()}
    state: dict[str, Tensor] = {}
    for name, (own, value) in expected.items():
        if name.endswith(BATCH_COUNTER_SUFFIX):
            state[own] = tensors.get(name, torch.zeros(())).to(torch.int64)
            continue
        if name not in tensors:
            raise WeightsError(f"{where} lacks the tensor {name}; it does not belong to this config")
        tensor = tensors[name]
        if tensor.shape != value.shape:
            raise WeightsError(
                f"{where}: {name} has shape {tuple(tensor.shape)}, but the config asks for {tuple(value.shape)}"
            )
        if not tensor.is_floating_point():
            raise WeightsError(f"{where}: {name} is {tensor.dtype}; weights are floating numbers")
        state[own] = tensor.float()
    for name in tensors:
        if name not in expected:
            raise WeightsError(
                f"{where} holds a tensor {name} that the config has no place for.{suggest_name(name, expected)}"
            )
    model.load_state_dict(state, assign=True)
    model.requires_grad_(True)
    if isinstance(config.vision, ResNetConfig):
        model.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
