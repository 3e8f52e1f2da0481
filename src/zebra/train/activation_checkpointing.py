"""Activation checkpointing of residual blocks (Chen et al., arXiv 1604.06174)."""

from collections.abc import Iterator
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from zebra.models import CLIP
from zebra.models.image.resnet import Bottleneck
from zebra.models.library_tower import LibraryTower
from zebra.models.transformer import TransformerBlock
from zebra.train.grad_cache import recompute_contexts


def apply_activation_checkpointing(model: CLIP) -> None:
    """Store only the inputs of each block, and recompute its activations in the backward pass.

    This takes a third more arithmetic and the memory of one block's activations instead of all.
    """
    for block in residual_blocks(model):
        block.forward = partial(
            checkpoint, block.forward, use_reentrant=False, context_fn=partial(recompute_contexts, block)
        )


def residual_blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the residual blocks of a tower or of both towers."""
    for module in model.modules():
        if isinstance(module, TransformerBlock | Bottleneck):
            yield module
        elif isinstance(module, LibraryTower):
            yield from module.residual_blocks()
