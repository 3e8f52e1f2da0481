"""torch.compile for residual blocks."""

import torch

from zebra.models import CLIP
from zebra.train.activation_checkpointing import residual_blocks


def compile_blocks(model: CLIP) -> None:
    """Compile each block at its first forward pass; blocks of the same shape share the compiled code.

    Only blocks are compiled, because texts are packed on the host, which breaks the graph of a tower. Two batches of
    texts rarely have the same number of tokens, so text blocks are compiled with dynamic shapes.
    """
    for tower, dynamic in ((model.visual, None), (model.text, True)):
        for block in residual_blocks(tower):
            block.forward = torch.compile(block.forward, dynamic=dynamic)
