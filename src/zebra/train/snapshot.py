"""Snapshots of the train state: copy it to CPU memory, and restore it."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zebra.errors import WeightsError
from zebra.train.parallel import copy_from_full, to_full

TensorGroups = Mapping[str, Mapping[str, Tensor]]
"""Part of the train state ("model", "optimizer", "rng", …) → name → tensor."""


@dataclass(frozen=True, slots=True)
class TrainSnapshot:
    """The train state at one step. It may share the run's tensors; `copy_to_cpu` makes one with its own memory."""

    step: int
    """Number of steps done."""
    tensors: TensorGroups
    state: Mapping[str, Any]
    """Everything that is not a tensor: counters, data position, Python's generators, …; JSON-serializable."""
    score: float | None = None
    """Mean validation score at this step, higher is better; None if nothing was evaluated."""


def copy_to_cpu(live: TrainSnapshot, buffers: TrainSnapshot | None = None) -> TrainSnapshot:
    """Copy a snapshot to its own CPU memory and gather sharded tensors; all processes must call it.

    Args:
        buffers: A copy that is no longer needed; its memory is reused, so repeated copies allocate nothing.
    """
    free: TensorGroups = buffers.tensors if buffers else {}
    tensors = {
        part: {name: _copy_to_buffer(value, free.get(part, {}).get(name)) for name, value in named.items()}
        for part, named in live.tensors.items()
    }
    return TrainSnapshot(live.step, tensors, json.loads(json.dumps(live.state)), live.score)


def restore_tensors(live: TensorGroups, saved: TensorGroups, checkpoint_name: str) -> None:
    """Copy saved tensors into the live ones; all are checked before any is changed.

    Args:
        checkpoint_name: Name of the checkpoint in the error message.

    Raises:
        WeightsError: A tensor is missing, unexpected, or has another shape or dtype; the message names it.
    """
    live_tensors, saved_tensors = _flatten(live), _flatten(saved)
    _require_match(live_tensors, saved_tensors, checkpoint_name)
    with torch.no_grad():
        for name, tensor in live_tensors.items():
            copy_from_full(tensor, saved_tensors[name])  # in place, to keep device and memory layout


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's live tensors by `<parameter>/<moment>`.

    AdamW and Muon create them at the first gradient of a parameter. This function creates missing ones with the same
    initial values, so a new optimizer has the same names as one that has run. A moment must have the memory layout of
    its parameter (channels last, for instance), because the fused update reads both in parallel.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    for param_group in optimizer.param_groups:
        for parameter in param_group["params"]:
            state = optimizer.state[parameter]
            if not state and "momentum" in param_group:  # Muon
                state["momentum_buffer"] = torch.zeros_like(parameter)
            elif not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            tensors |= {f"{names[parameter]}/{key}": value for key, value in state.items()}
    return tensors


def get_rng_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state of all global generators: torch's as tensors by device, Python's and NumPy's for JSON."""
    version, internal, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    numpy_state["state"]["key"] = numpy_state["state"]["key"].tolist()
    tensors = {device: generator.get_state() for device, generator in _global_generators().items()}
    return tensors, {"python": [version, list(internal), gauss], "numpy": numpy_state}


def set_rng_state(tensors: Mapping[str, Tensor], state: Mapping[str, Any], checkpoint_name: str) -> None:
    """Restore what `get_rng_state` returned; call it after the model is on its device, which creates a generator.

    Args:
        checkpoint_name: Name of the checkpoint in the error message.

    Raises:
        WeightsError: A generator of this process has no saved state, or a saved state has no generator.
    """
    generators = _global_generators()
    current = {device: generator.get_state() for device, generator in generators.items()}
    _require_match(_flatten({"rng": current}), _flatten({"rng": tensors}), checkpoint_name)
    for name in ("python", "numpy"):
        if name not in state:
            raise WeightsError(f"{checkpoint_name} lacks the state of {name}'s generator. {_RESUME_HINT}")
    for device, generator in generators.items():
        generator.set_state(tensors[device])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(state["numpy"])


_RESUME_HINT = "Resume with the settings, devices and zebra version that wrote it, or start a new run in another --out."


def _require_match(live: Mapping[str, Tensor], saved: Mapping[str, Tensor], checkpoint_name: str) -> None:
    if missing := sorted(live.keys() - saved.keys()):
        raise WeightsError(f"{checkpoint_name} lacks {_format_names(missing)}, which this run needs. {_RESUME_HINT}")
    if unexpected := sorted(saved.keys() - live.keys()):
        raise WeightsError(
            f"{checkpoint_name} holds {_format_names(unexpected)}, which this run does not have. {_RESUME_HINT}"
        )
    for name, tensor in live.items():
        if _dtype_and_shape(tensor) != _dtype_and_shape(saved[name]):
            raise WeightsError(
                f"{checkpoint_name}: {name} is {_dtype_and_shape(saved[name])}, but this run has "
                f"{_dtype_and_shape(tensor)}. {_RESUME_HINT}"
            )


def _copy_to_buffer(value: Tensor, buffer: Tensor | None) -> Tensor:
    value = to_full(value)
    if buffer is None or _dtype_and_shape(buffer) != _dtype_and_shape(value):
        buffer = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
    return buffer.copy_(value.detach())


def _flatten(groups: TensorGroups) -> dict[str, Tensor]:
    return {f"{part}/{name}": tensor for part, named in groups.items() for name, tensor in named.items()}


def _dtype_and_shape(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}".removeprefix("torch.")


def _format_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _global_generators() -> dict[str, torch.Generator]:
    """Return torch's global generators: the CPU's, and that of the GPU which this process uses."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # so in torch
        return {"cpu": torch.default_generator}
    cuda = torch.cuda.default_generators[torch.cuda.current_device()]
    return {"cpu": torch.default_generator, "cuda": cuda}
