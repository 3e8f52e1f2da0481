"""Weight files in, name → tensor out, without running anything that lies in them."""

import json
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zebra.errors import WeightsError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, the index of a sharded one, or a `.bin`/`.pt` state dict, memory-mapped.

    A pickled state dict passes torch's restricted reader alone: what is not a tensor is refused, never run.

    Raises:
        WeightsError: The file is missing, damaged, or holds anything but tensors.
    """
    if not path.is_file():
        raise WeightsError(f"there is no weight file {path}; copy the folder again")
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def list_weight_files(path: Path) -> tuple[Path, ...]:
    """Return the files that `read_tensors(path)` reads: shards beside their index, or the file alone."""
    if not path.name.endswith(".index.json"):
        return (path,)
    return (path, *(path.parent / name for name in sorted(set(_read_weight_map(path).values()))))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}); copy it again") from error
    return tensors


def _read_shards(index: Path) -> dict[str, Tensor]:
    where = _read_weight_map(index)
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(where.values())):
        shard = read_tensors(index.parent / name)
        for tensor in shard.keys() - where.keys():
            raise WeightsError(
                f"{index.parent / name} holds a tensor {tensor} that {index.name} does not list"
            )
        tensors |= shard
    _require_tensors(where, tensors, index)
    return tensors


def _read_weight_map(index: Path) -> dict[str, str]:
    try:
        where = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        mapped = {str(tensor): str(name) for tensor, name in where.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} is damaged ({error!r}); copy it again") from error
    for name in mapped.values():
        if Path(name).name != name:
            raise WeightsError(f"{index} points outside its folder, at {name!r}; do not trust it")
    return mapped


def _require_tensors(names: Iterable[str], tensors: dict[str, Tensor], index: Path) -> None:
    missing = [name for name in names if name not in tensors]
    if missing:
        raise WeightsError(f"{index} lists {missing[0]}, but no shard holds it; copy the folder again")


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path} is not a plain state dict of tensors ({str(error).splitlines()[0][:200]}); nothing in it was "
            "run. Ask its author for safetensors"
        ) from error
    # Trainers wrap the weights: {"state_dict": {...}, "epoch": 3}, with a prefix "module." from DDP.
    if isinstance(held, dict) and isinstance(held.get("state_dict"), dict):
        held = held["state_dict"]
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise WeightsError(f"{path} holds something else than named tensors; it is not a model")
    return {str(name).removeprefix("module."): value for name, value in held.items()}
