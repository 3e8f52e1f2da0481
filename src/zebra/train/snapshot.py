"""What a run needs to go on: its live tensors and state in, a copy that training does not touch out, and back."""

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
"""Part of a run ("model", "optimizer", "rng", …) → name → tensor."""


@dataclass(frozen=True, slots=True)
class TrainSnapshot:
    """A run at one step. It may hold the live tensors of the run; `take` makes one that owns what it holds."""

    step: int
    """Steps done."""
    tensors: TensorGroups
    state: Mapping[str, Any]
    """What is not a tensor: counters, data position, ledger, Python's generators, …; ready for JSON."""
    score: float | None = None
    """Of the checks at this step, higher is better; None if none ran."""


def copy_to_cpu(live: TrainSnapshot, buffers: TrainSnapshot | None = None) -> TrainSnapshot:
    """Copy a snapshot to CPU memory of its own, sharded tensors put together: all processes must ask.

    Args:
        buffers: A copy that is not needed any more: its memory is filled again, so that the second copy and all that
            follow allocate nothing.
    """
    free: TensorGroups = buffers.tensors if buffers else {}
    tensors = {
        part: {name: _copy_to_buffer(value, free.get(part, {}).get(name)) for name, value in named.items()}
        for part, named in live.tensors.items()
    }
    return TrainSnapshot(live.step, tensors, json.loads(json.dumps(live.state)), live.score)


def restore_tensors(live: TensorGroups, saved: TensorGroups, checkpoint_name: str) -> None:
    """Fill the live tensors of a run with saved ones; everything is checked before anything is touched.

    Args:
        checkpoint_name: The checkpoint, for the message.

    Raises:
        WeightsError: A tensor is missing, left over, or of another shape or dtype; it is named.
    """
    mine, theirs = _flatten(live), _flatten(saved)
    _require_match(mine, theirs, checkpoint_name)
    with torch.no_grad():
        for name, tensor in mine.items():
            copy_from_full(tensor, theirs[name])  # in place: device and memory layout stay


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return AdamW's live tensors under `<parameter>/<moment>`.

    AdamW makes them at a parameter's first gradient. Here they are made already, with the values it would give them,
    so that a fresh optimizer has the same names as one that has run. A moment must lie in memory as its parameter
    does (channels last, for instance): the fused update walks through both side by side.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            tensors |= {f"{names[parameter]}/{key}": value for key, value in state.items()}
    return tensors


def get_rng_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state of every global generator: torch's on each device as tensors, Python's and numpy's as JSON."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    numpy_state["state"]["key"] = numpy_state["state"]["key"].tolist()
    tensors = {device: generator.get_state() for device, generator in _global_generators().items()}
    return tensors, {"python": [version, list(words), gauss], "numpy": numpy_state}


def set_rng_state(tensors: Mapping[str, Tensor], state: Mapping[str, Any], checkpoint_name: str) -> None:
    """Go back to an `rng_state`; to be called when the model is on its device, which has a generator from then on.

    Args:
        checkpoint_name: The checkpoint, for the message.

    Raises:
        WeightsError: A generator of this process has no saved state, or the other way round.
    """
    generators = _global_generators()
    current = {device: generator.get_state() for device, generator in generators.items()}
    _require_match(_flatten({"rng": current}), _flatten({"rng": tensors}), checkpoint_name)
    for name in ("python", "numpy"):
        if name not in state:
            raise WeightsError(f"{checkpoint_name} lacks the state of {name}'s generator: {_RESUME_HINT}")
    for device, generator in generators.items():
        generator.set_state(tensors[device])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(state["numpy"])


_RESUME_HINT = (
    "go on with the settings, devices and version of zebra that wrote it, or start again in another --out"
)


def _require_match(live: Mapping[str, Tensor], saved: Mapping[str, Tensor], checkpoint_name: str) -> None:
    if missing := sorted(live.keys() - saved.keys()):
        raise WeightsError(
            f"{checkpoint_name} lacks {_format_names(missing)}, which this run needs: {_RESUME_HINT}"
        )
    if left_over := sorted(saved.keys() - live.keys()):
        raise WeightsError(
            f"{checkpoint_name} holds {_format_names(left_over)}, for which this run has no place: {_RESUME_HINT}"
        )
    for name, tensor in live.items():
        if _dtype_and_shape(tensor) != _dtype_and_shape(saved[name]):
            raise WeightsError(
                f"{checkpoint_name}: {name} is {_dtype_and_shape(saved[name])} where this run has {_dtype_and_shape(tensor)}: {_RESUME_HINT}"
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
