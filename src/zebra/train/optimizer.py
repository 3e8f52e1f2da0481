"""AdamW or Muon with weight decay groups (CLIP §2.5) and layer-wise rates."""

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from zebra.config.train import OptimizerConfig
from zebra.errors import ConfigError
from zebra.models.library_tower import LibraryTower
from zebra.train.muon import Muon, muon_names


def build_optimizer(model: nn.Module, config: OptimizerConfig, layer_decay: float = 1.0) -> torch.optim.Optimizer:
    """Build the optimizer; the training loop sets its learning rate before every step.

    "All weights that are not gains or biases" decay. A gain or bias has one dimension. So the class embedding and the
    temperature do not decay; positional embeddings do.

    Args:
        layer_decay: Factor of the learning rate from each block of a tower to the block below it. A parameter group's
            `lr_scale` is its total factor.

    Raises:
        ConfigError: Muon is to train a model without matrices other than embeddings.
    """
    depths = layer_depths(model) if layer_decay < 1 else {}
    uses_muon = muon_names(model) if config.name == "muon" else frozenset()
    if config.name == "muon" and not uses_muon:
        raise ConfigError("optimizer.name is muon, but the model trains no matrix besides embeddings; use adamw")
    parameters_by_kind: dict[tuple[bool, int, bool, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # The fused update cannot mix FSDP2's sharded parameters with whole ones such as the temperature.
            kind = (parameter.ndim > 1, depths.get(name, 0), isinstance(parameter, DTensor), name in uses_muon)
            parameters_by_kind[kind].append(parameter)
    groups: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for (decays, depth, _, by_muon), params in parameters_by_kind.items():
        weight_decay = config.weight_decay if decays else 0.0
        groups[by_muon].append({"params": params, "weight_decay": weight_decay, "lr_scale": layer_decay**depth})
    muon = Muon(groups[True]) if groups[True] else None
    if muon is not None and not groups[False]:
        return muon
    adamw = torch.optim.AdamW(groups[False], lr=0.0, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)
    return adamw if muon is None else MuonWithAdamW(muon, adamw)


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for some parameters and AdamW for the others, as one optimizer."""

    def __init__(self, muon: Muon, adamw: torch.optim.AdamW) -> None:
        super().__init__([*muon.param_groups, *adamw.param_groups], {})  # the groups are shared, not copied
        self.optimizers = (muon, adamw)
        muon.state = adamw.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters."""
        assert closure is None, "closures are not supported"
        for optimizer in self.optimizers:
            optimizer.step()


def layer_depths(model: nn.Module) -> dict[str, int]:
    """Return the layer depth of each parameter: the number of blocks from the top of its tower down to it, inclusive.

    Heads and the temperature have depth 0, the last block 1. Embeddings and stems are below all blocks.
    """
    known = {
        f"{tower_name}.{name}": depth
        for tower_name, tower in model.named_children()
        if isinstance(tower, LibraryTower)
        for name, depth in tower.layer_depths().items()
    }
    block_by_name = {name: _block_index(name) for name, _ in model.named_parameters() if name not in known}
    num_blocks: dict[str, int] = defaultdict(int)
    for name, block in block_by_name.items():
        num_blocks[_tower_name(name)] = max(num_blocks[_tower_name(name)], block or 0)
    return known | {
        name: 0 if block is None else num_blocks[_tower_name(name)] + 1 - block for name, block in block_by_name.items()
    }


def _tower_name(parameter_name: str) -> str:
    return parameter_name.partition(".")[0]


def _block_index(parameter_name: str) -> int | None:
    """Return 0 for parameters below the first block, the block's number from 1, and None above the last block."""
    if block := re.search(r"resblocks\.(\d+)\.", parameter_name):
        return int(block[1]) + 1
    if stage := re.match(r"visual\.layer(\d)\.", parameter_name):
        return int(stage[1])
    below_blocks = (
        r"visual\.(conv|bn)\d|.*(class_embedding|token_embedding|patch_embed|cls_emb|ln_pre)|"
        r"(visual|text)\.positional_embedding"
    )
    return 0 if re.match(below_blocks, parameter_name) else None
