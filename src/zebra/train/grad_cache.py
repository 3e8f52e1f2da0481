"""Gradient caching for large batches (GradCache, arXiv 2101.06983).

A contrastive loss needs the embeddings of the whole batch, but the gradient of a tower needs only the gradient of its
outputs. So each chunk of the batch first passes the towers without storing activations. The loss of the whole batch
then gives each embedding its gradient, and a second forward pass of each chunk carries it down to the weights.

The implementation is `torch.utils.checkpoint` around a chunk. Autograd goes from the loss to the last chunk, then to
the one before, and recomputes each chunk when it gets there. The last chunk comes first, so it keeps its activations
and passes once: a batch of one chunk is an ordinary forward pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zebra.config.train import TrainPrecision
from zebra.models import CLIP
from zebra.train.parallel import ForwardFn
from zebra.train.precision import autocast
from zebra.values import PatchBatch

TowerOutputs = tuple[Tensor, Tensor, Tensor]
"""Image embeddings [B, E], text embeddings [B, E], logit scale."""


def embed_in_chunks(
    model: CLIP,
    forward_fn: ForwardFn,
    inputs: Sequence[Tensor | PatchBatch],
    *,
    num_pairs: int | None = None,
    chunk_size: int | None,
    precision: TrainPrecision,
) -> TowerOutputs:
    """Embed a batch and store the activations of only one chunk of it.

    One backward pass through the result gives the gradients of the whole batch. This holds for random operations such
    as dropout: the second pass of a chunk repeats its random numbers, and afterwards the generators are where one pass
    through all chunks leaves them. MPS is an exception, because `torch.utils.checkpoint` does not restore its
    generator; the towers of `zebra.models` use no random numbers.

    Batch norm differs: it uses the statistics of a chunk, not of the batch, and updates its running statistics once
    per chunk, in order.

    Args:
        model: The model without a wrapper. All chunks but the last use it, so nothing is communicated for them; the
            last chunk communicates the sum of all gradients.
        forward_fn: The model as `parallelize` returns it.
        inputs: Normalized pixels [B, 3, H, W] or patches, float32; token ids [B, L], int64; for patch dropout, the
            indices of the kept patches [B, K], int64. There may be more texts than images.
        num_pairs: Number of images; None: that of the texts.
        chunk_size: Largest number of pairs per forward pass; chunk sizes differ by at most one. None uses the batch.
        precision: Precision of the towers, in both passes.

    Returns:
        The output of `forward_fn` for the whole batch.
    """

    def forward(towers: ForwardFn, *chunk: Tensor | PatchBatch) -> TowerOutputs:
        # One autocast context per chunk: a shared one would cache the bf16 copy of a weight, and so sum the gradients
        # of all chunks in bf16.
        with autocast(precision, model.logit_scale.device):
            return towers(*chunk)

    num_pairs = num_pairs or len(inputs[1])
    num_chunks = -(-num_pairs // (chunk_size or num_pairs))
    *early, last = zip(*(each.tensor_split(num_chunks) for each in inputs), strict=True)
    parts: list[TowerOutputs] = [
        checkpoint(forward, model, *chunk, use_reentrant=False, context_fn=partial(recompute_contexts, model))
        for chunk in early
    ]
    parts.append(forward(forward_fn, *last))
    image_parts, text_parts, scales = zip(*parts, strict=True)
    return torch.cat(image_parts), torch.cat(text_parts), scales[-1]


def recompute_contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of the two forward passes of `torch.utils.checkpoint`."""
    return nullcontext(), _preserve_buffers(module)


@contextmanager
def _preserve_buffers(model: nn.Module) -> Iterator[None]:
    """Undo changes to buffers inside the block: batch norm has counted a chunk in its first pass already."""
    saved = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    finally:  # checkpoint ends the second pass by an exception once it has all activations
        for buffer, value in zip(model.buffers(), saved, strict=True):
            buffer.copy_(value)
