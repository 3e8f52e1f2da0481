"""How the blocks of both towers pass: compiled, and with their activations computed again instead of kept."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from zebra.models import CLIP
from zebra.models.image.resnet import Bottleneck
from zebra.models.transformer import ResidualBlock
from zebra.train.grad_cache import preserve_buffers


def compile_blocks(model: CLIP) -> None:
    """Compile each block at its first pass; blocks of one shape share what is compiled.

    Blocks and not towers: texts are packed on the host, which no graph can hold. No two batches of texts have as many
    tokens, so theirs are compiled for any number at once.
    """
    for tower, dynamic in ((model.visual, None), (model.text, True)):
        for block in residual_blocks(tower):
            block.forward = torch.compile(block.forward, dynamic=dynamic)


def apply_activation_checkpointing(model: CLIP) -> None:
    """Keep what goes into a block, and compute the rest again for its gradients (Chen et al. 2016, arXiv 1604.06174).

    A third more arithmetic; memory for one block instead of all.
    """
    for block in residual_blocks(model):
        block.forward = partial(
            checkpoint, block.forward, use_reentrant=False, context_fn=partial(_checkpoint_contexts, block)
        )


def residual_blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the residual blocks of a tower, or of both."""
    for module in model.modules():
        if isinstance(module, ResidualBlock | Bottleneck):
            yield module


def _checkpoint_contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    return nullcontext(), preserve_buffers(block)
