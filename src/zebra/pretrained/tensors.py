"""Reading and writing of weight files; code in them is not executed."""

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zebra.errors import WeightsError
from zebra.pretrained.torch_archive import read_archive
from zebra.pretrained.weight_files import INDEX_SUFFIX, read_weight_map

MAX_HEADER_BYTES = 1 << 22
"""Limit on the header of a safetensors file, several times that of the largest models. Each tensor costs time."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, the index of a sharded one, or a `.bin`/`.pt` state dict; memory-mapped.

    Pickled state dicts are read by `read_archive`; values in them that are not tensors are ignored.

    Raises:
        WeightsError: The file is missing or damaged, or needs more memory than its size justifies.
    """
    if not path.is_file():
        raise WeightsError(f"weight file not found: {path}. Copy the folder again.")
    if path.name.endswith(INDEX_SUFFIX):
        return _read_shards(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file with the permissions of any new file; the library itself creates files with 0600.

    Args:
        metadata: By default the format that transformers requires.
    """
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save_file(dict(tensors), path, metadata=dict(metadata or {"format": "pt"}))
    path.chmod(mode)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
        if MAX_HEADER_BYTES < header_bytes < path.stat().st_size:
            raise WeightsError(
                f"{path} has a header of {header_bytes:,} bytes; the limit is {MAX_HEADER_BYTES:,}. No model has so "
                "many tensors. Do not trust this file."
            )
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}). Copy it again.") from error
    return tensors


def _read_shards(index: Path) -> dict[str, Tensor]:
    weight_map = read_weight_map(index)
    tensors: dict[str, Tensor] = {}
    for file_name in sorted(set(weight_map.values())):
        shard = read_tensors(index.parent / file_name)
        for name in shard.keys() - weight_map.keys():
            raise WeightsError(
                f"{index.parent / file_name} has a tensor {name} that {index.name} does not list. Copy the folder "
                "again."
            )
        tensors |= shard
    _require_tensors(weight_map, tensors, index)
    return tensors


def _require_tensors(names: Iterable[str], tensors: dict[str, Tensor], index: Path) -> None:
    missing = [name for name in names if name not in tensors]
    if missing:
        raise WeightsError(f"{index} lists {missing[0]}, but no shard contains it. Copy the folder again.")


def _read_pickle(path: Path) -> dict[str, Tensor]:
    tensors = read_archive(path)
    # Training checkpoints wrap the weights: {"state_dict": {...}, "epoch": 3}, with the prefix "module." of DDP.
    wrapped = {
        name.removeprefix("state_dict."): value for name, value in tensors.items() if name.startswith("state_dict.")
    }
    if not tensors:
        raise WeightsError(f"{path} contains something other than named tensors. Name the weights of a model.")
    return {name.removeprefix("module."): value for name, value in (wrapped or tensors).items()}
