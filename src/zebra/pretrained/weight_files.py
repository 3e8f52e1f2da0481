"""Names of weight files, by layout, and the shards of a model."""

from collections.abc import Sequence
from pathlib import Path

from zebra.errors import WeightsError
from zebra.text.files import read_json_object

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_SAFETENSORS = "open_clip_model.safetensors"
OPEN_CLIP_WEIGHTS = (
    OPEN_CLIP_SAFETENSORS,
    f"{OPEN_CLIP_SAFETENSORS}.index.json",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.bin.index.json",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
)
"""Names of the weight file in open_clip's order; the first one that exists is read."""
TRANSFORMERS_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of the weight file in the layout of transformers; the first one that exists is read."""
INDEX_SUFFIX = ".index.json"


def find_weights(folder: Path, names: Sequence[str] = TRANSFORMERS_WEIGHTS) -> Path:
    """Return the first file of some names in a folder; WeightsError if there is none."""
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise WeightsError(f"{folder} has no weights ({', '.join(names)}). Copy the folder again.")
    return path


def list_weight_files(path: Path) -> tuple[Path, ...]:
    """Return an index and its shards, or the weight file itself."""
    if not path.name.endswith(INDEX_SUFFIX):
        return (path,)
    return (path, *(path.parent / name for name in sorted(set(read_weight_map(path).values()))))


def read_weight_map(index: Path) -> dict[str, str]:
    """Return the name of the shard of each tensor.

    Raises:
        WeightsError: The file is damaged, or names a file outside its folder.
    """
    try:
        raw = read_json_object(index)["weight_map"]
        weight_map = {str(name): str(file_name) for name, file_name in raw.items()}
    except (KeyError, AttributeError) as error:
        raise WeightsError(f"{index} is damaged ({error!r}). Copy it again.") from error
    for file_name in weight_map.values():
        if Path(file_name).name != file_name:
            raise WeightsError(f"{index} names a file outside its folder: {file_name!r}. Do not trust this model.")
        if file_name.endswith(INDEX_SUFFIX):
            raise WeightsError(f"{index} names another index as a shard: {file_name!r}. Copy the folder again.")
    return weight_map
