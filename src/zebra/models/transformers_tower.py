"""Base class of the towers that Hugging Face transformers computes."""

from collections.abc import Iterator

import torch
from torch import nn

from zebra.config.transformers_towers import TransformersTowerConfig
from zebra.models.library_tower import LibraryTower, require_initialized
from zebra.models.transformers_encoder import build_encoder, skip_initialization


class TransformersTower(LibraryTower):
    """An encoder of the library, then a projection `proj`."""

    encoder_name: str
    """Name of the encoder in the tower, which is its name in open_clip."""
    config: TransformersTowerConfig
    proj: nn.Module

    @property
    def encoder(self) -> nn.Module:
        """Return the library's encoder."""
        return self.get_submodule(self.encoder_name)

    def init_buffers(self) -> None:
        """Copy the buffers that are in no weight file, such as position tables, from an encoder built on the CPU."""
        names = [name for name, buffer in self.encoder.named_buffers() if buffer.is_meta]
        if names:
            # Memory of its parameters is reserved, but hardly touched.
            with torch.device("cpu"), skip_initialization():
                computed = dict(build_encoder(self.config).named_buffers())
            for name in names:
                module, _, buffer = name.rpartition(".")
                setattr(self.encoder.get_submodule(module), buffer, computed[name])
        require_initialized(self, "transformers")

    def fuse(self) -> None:
        """Do nothing: the encoders have no layers to merge."""

    def residual_blocks(self) -> Iterator[nn.Module]:
        """Yield the members of the encoder's outermost lists of modules, from input to output."""
        for _, block in self._named_blocks():
            yield block

    def linear_layers(self) -> Iterator[tuple[str, nn.Linear]]:
        """Yield the linear layers of the blocks; the library calls each as a module."""
        for block_name, block in self._named_blocks():
            for name, module in block.named_modules():
                if type(module) is nn.Linear:
                    yield f"{self.encoder_name}.{block_name}.{name}", module

    def layer_depths(self) -> dict[str, int]:
        """Return the depth of each parameter by name: embeddings are below all blocks, other layers above them."""
        block_names = [f"{name}." for name, _ in self._named_blocks()]
        depths = {}
        for name, _ in self.encoder.named_parameters():
            index = next((i for i, block in enumerate(block_names) if name.startswith(block)), None)
            is_stem = index is None and "embed" in name
            depth = len(block_names) + 1 if is_stem else 0 if index is None else len(block_names) - index
            depths[f"{self.encoder_name}.{name}"] = depth
        return depths | {f"proj.{name}": 0 for name, _ in self.proj.named_parameters()}

    def _named_blocks(self) -> Iterator[tuple[str, nn.Module]]:
        outer: list[str] = []
        for name, module in self.encoder.named_modules():
            if isinstance(module, nn.ModuleList) and not name.startswith(tuple(outer)):
                outer.append(f"{name}.")
                for index, block in module.named_children():
                    yield f"{name}.{index}", block
