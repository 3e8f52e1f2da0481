"""AdamW with the paper's decay groups (CLIP §2.5): a model in, its optimizer out."""

from collections import defaultdict

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from zebra.config.train import OptimizerConfig
from zebra.train.freeze import layer_depths


def split_by_weight_decay(model: nn.Module) -> tuple[list[str], list[str]]:
    """Split parameter names into those that decay and those that do not.

    "All weights that are not gains or biases" decay; a gain or bias has one dimension. The class embedding and
    the temperature fall on their side, positional embeddings on the other.
    """
    names = [
        (name, parameter.ndim) for name, parameter in model.named_parameters() if parameter.requires_grad
    ]
    return [name for name, ndim in names if ndim > 1], [name for name, ndim in names if ndim <= 1]


def build_optimizer(model: nn.Module, config: OptimizerConfig, layer_decay: float = 1.0) -> torch.optim.AdamW:
    """Build the optimizer; its learning rate is set before every step by the loop.

    Args:
        layer_decay: Factor of the learning rate from each block of a tower to the one below it; a group's `share` says
            what of the learning rate is its own.
    """
    parameters = dict(model.named_parameters())
    above = layer_depths(model) if layer_decay < 1 else {}
    groups = []
    for names, decay in zip(split_by_weight_decay(model), (config.weight_decay, 0.0), strict=True):
        # The fused update takes sharded and whole parameters (FSDP2's, and the temperature) one kind at a time.
        alike: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
        for name in names:
            alike[above.get(name, 0), isinstance(parameters[name], DTensor)].append(parameters[name])
        groups += [
            {"params": params, "weight_decay": decay, "share": layer_decay**height}
            for (height, _), params in sorted(alike.items(), key=lambda item: item[0])
        ]
    return torch.optim.AdamW(
        groups,
        lr=0.0,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )
