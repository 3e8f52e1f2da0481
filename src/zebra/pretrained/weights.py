"""Conversion between models and tensors under their published names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zebra.config.image_towers import ResNetConfig
from zebra.config.model import ModelConfig
from zebra.errors import ConfigError, WeightsError, suggest_name
from zebra.models import CLIP
from zebra.models.library_tower import LibraryTower
from zebra.pretrained.tensors import write_tensors

TEXT_PREFIX = "text."
MIN_TENSORS_PER_BLOCK = 8
"""Number of tensors of the smallest block, that of T5, which has no biases."""
BATCH_COUNTER_SUFFIX = "num_batches_tracked"
"""Suffix of batch norm's step counters, which inference does not use; they may be missing."""

WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INIT_FUNCTIONS = {
    Tensor.normal_,
    Tensor.uniform_,
    Tensor.erfinv_,  # the largest part of `trunc_normal_`
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.kaiming_uniform_,
    nn.init.xavier_uniform_,
}
"""Functions that fill weights with random numbers."""


def published_state_dict(model: CLIP) -> dict[str, Tensor]:
    """Return every parameter and buffer on the CPU, without the text tower's prefix, as in the published files."""
    return {
        name.removeprefix(TEXT_PREFIX): value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }


def save_weights(model: CLIP, path: Path) -> None:
    """Write a model as safetensors."""
    write_tensors(published_state_dict(model), path)


class _SkipInit(TorchFunctionMode):
    """Skips random initialization, which on the meta device would import a large part of torch's compiler."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor unchanged instead of filling it."""
        kwargs = kwargs or {}
        if func in INIT_FUNCTIONS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_model(config: ModelConfig, tensors: Mapping[str, Tensor], where: str) -> CLIP:
    """Build the model of a config with tensors under their published names.

    The tensors become the parameters: memory-mapped tensors stay memory-mapped, and no weights are initialized first.
    fp16 and bf16 tensors are converted to fp32.

    Args:
        where: Name of the file in error messages.

    Raises:
        WeightsError: A tensor is missing, unknown, of another shape, or of another type than fp16, bf16, fp32 or fp64;
            or the library that computes a tower cannot build it.
        MissingExtra: The library that computes a tower is not installed.
    """
    # Compared first: modules cost time and memory even on the meta device.
    num_blocks = config.vision.num_blocks + config.text.num_blocks
    if len(tensors) < MIN_TENSORS_PER_BLOCK * num_blocks:
        raise WeightsError(
            f"{where} has {len(tensors)} tensors, too few for the {num_blocks} layers of the config. Use the config of "
            "these weights."
        )
    try:
        with torch.device("meta"), _SkipInit():
            model = CLIP(config)
    except ConfigError as error:  # the library of a tower cannot build it
        raise WeightsError(f"{where}: {error}") from error
    expected = {name.removeprefix(TEXT_PREFIX): (name, value) for name, value in model.state_dict().items()}
    state: dict[str, Tensor] = {}
    for name, (zebra_name, value) in expected.items():
        is_counter = name.endswith(BATCH_COUNTER_SUFFIX)
        if name not in tensors and not is_counter:
            raise WeightsError(f"{where} lacks the tensor {name}. Use the config of these weights.")
        tensor = tensors.get(name, torch.zeros(()))
        if tensor.shape != value.shape:
            raise WeightsError(
                f"{where}: {name} has shape {tuple(tensor.shape)}, but the config implies {tuple(value.shape)}. Use "
                "the config of these weights."
            )
        if tensor.dtype not in WEIGHT_DTYPES and not (is_counter and tensor.dtype == torch.int64):
            raise WeightsError(f"{where}: {name} has the type {tensor.dtype}. zebra reads fp16, bf16, fp32 and fp64.")
        state[zebra_name] = tensor.to(torch.int64 if is_counter else torch.float32)
    for name in tensors:
        if name not in expected:
            raise WeightsError(
                f"{where} has a tensor {name} that the config does not imply.{suggest_name(name, expected)}"
            )
    model.load_state_dict(state, assign=True)
    model.requires_grad_(True)
    for tower in (model.visual, model.text):
        if isinstance(tower, LibraryTower):
            tower.init_buffers()
    if isinstance(config.vision, ResNetConfig):
        model.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
