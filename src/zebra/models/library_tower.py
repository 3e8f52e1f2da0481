"""Towers that another library computes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import nn

from zebra.errors import ConfigError


class LibraryTower(ABC, nn.Module):
    """Base class of towers that another library computes."""

    @abstractmethod
    def init_buffers(self) -> None:
        """Compute the buffers that are in no state dict; called after weights were assigned on the meta device."""

    @abstractmethod
    def fuse(self) -> None:
        """Merge layers that inference can compute as one, in place; the tower can then not be trained or saved."""

    @abstractmethod
    def residual_blocks(self) -> Iterator[nn.Module]:
        """Yield the blocks that training compiles and checkpoints one by one."""

    @abstractmethod
    def linear_layers(self) -> Iterator[tuple[str, nn.Linear]]:
        """Yield the linear layers, by name, that the tower calls as modules, so that LoRA can adapt them."""

    @abstractmethod
    def layer_depths(self) -> dict[str, int]:
        """Return the depth of each parameter by name: 0 for the head, 1 for the last block, most for the stem."""


def require_initialized(tower: nn.Module, library: str) -> None:
    """Raise ConfigError if tensors of a tower are still on the meta device, so without values."""
    tensors = [*tower.named_parameters(), *tower.named_buffers()]
    if empty := [name for name, tensor in tensors if tensor.is_meta]:
        raise ConfigError(
            f"{library} has no function that computes the buffer {empty[0]} of this model, which is in no weight file. "
            f"Upgrade it: pip install --upgrade {library}"
        )
