"""AdamW with the paper's decay groups (CLIP §2.5): a model in, its optimizer out."""

import torch
from torch import nn

from zebra.config.train import OptimizerConfig


def decay_groups(model: nn.Module) -> tuple[list[str], list[str]]:
    """Split parameter names into those that decay and those that do not.

    "All weights that are not gains or biases" decay; a gain or bias has one dimension. The class embedding and
    the temperature fall on their side, positional embeddings on the other.
    """
    names = [
        (name, parameter.ndim) for name, parameter in model.named_parameters() if parameter.requires_grad
    ]
    return [name for name, ndim in names if ndim > 1], [name for name, ndim in names if ndim <= 1]


def adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Build the optimizer; its learning rate is set before every step by the loop."""
    parameters = dict(model.named_parameters())
    decayed, free = decay_groups(model)
    return torch.optim.AdamW(
        [
            {"params": [parameters[name] for name in decayed], "weight_decay": config.weight_decay},
            {"params": [parameters[name] for name in free], "weight_decay": 0.0},
        ],
        lr=0.0,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )
