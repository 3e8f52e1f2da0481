"""torch.compile for residual blocks."""

import torch

from zebra.models import CLIP
from zebra.models.library_tower import LibraryTower
from zebra.models.transformer import Attention
from zebra.train.activation_checkpointing import residual_blocks


def compile_blocks(model: CLIP) -> None:
    """Compile each block at its first forward pass; blocks of the same shape share the compiled code.

    Only blocks are compiled, because texts are packed on the host, which breaks the graph of a tower. Two batches of
    texts rarely have the same number of tokens, so text blocks are compiled with dynamic shapes. Attention by length
    is not compiled, because it would be compiled again for each number of lengths.
    """
    for module in model.text.modules():
        if isinstance(module, Attention):
            module.attend_by_length = torch.compiler.disable(module.attend_by_length)  # type: ignore[method-assign, no-untyped-call]
    # torch 2.13 fails on the dynamic shapes that it assumes when it sees the stages of a ConvNeXt.
    image_dynamic = False if isinstance(model.visual, LibraryTower) else None
    for tower, dynamic in ((model.visual, image_dynamic), (model.text, True)):
        for block in residual_blocks(tower):
            block.forward = torch.compile(block.forward, dynamic=dynamic)
