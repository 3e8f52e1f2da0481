"""Weights on disk under their published names: a model in, safetensors out, and back."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zebra.errors import WeightsError, nearest
from zebra.models import CLIP

TEXT_PREFIX = "text."


def save_weights(model: CLIP, path: Path) -> None:
    """Write every parameter and buffer; the text tower's prefix is dropped, as in the published files."""
    tensors = {
        _published(name): value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    save_file(tensors, path)


def load_weights(model: CLIP, path: Path) -> None:
    """Fill the model in place.

    Raises:
        WeightsError: The file cannot be read, or a tensor is missing, left over or of another shape.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}); copy it again") from error
    expected = {_published(name): (name, value) for name, value in model.state_dict().items()}
    for name, (_, value) in expected.items():
        if name not in tensors:
            raise WeightsError(f"{path} lacks the tensor {name}; it does not belong to this config.json")
        if tensors[name].shape != value.shape:
            raise WeightsError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}, but config.json asks for "
                f"{tuple(value.shape)}"
            )
    for name in tensors:
        if name not in expected:
            raise WeightsError(
                f"{path} holds a tensor {name} that config.json has no place for.{nearest(name, expected)}"
            )
    state: dict[str, Tensor] = {own: tensors[name] for name, (own, _) in expected.items()}
    model.load_state_dict(state)


def _published(name: str) -> str:
    return name.removeprefix(TEXT_PREFIX)
