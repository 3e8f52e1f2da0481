"""A batch in, its embeddings out, ready for one backward pass that holds the activations of one chunk at a time.

This is gradient caching (GradCache, Gao et al. 2021, arXiv 2101.06983). A contrastive loss needs the embeddings of
the whole batch, but the gradient of a tower needs only that of its outputs. So chunks pass the towers and leave
nothing but embeddings behind; the loss of the whole batch, computed once, gives each embedding its gradient; and
each chunk passes once more to take its gradients down to the weights. That is `torch.utils.checkpoint` around a
chunk: autograd goes from the loss to the last chunk, then to the one before it, and runs each again when it gets
there. It starts with the last chunk, which therefore keeps its activations and passes once: a batch of one chunk
is an ordinary forward pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zebra.config.train import TrainPrecision
from zebra.models import CLIP
from zebra.train.parallel import ForwardFn
from zebra.train.precision import autocast

TowerOutputs = tuple[Tensor, Tensor, Tensor]
"""Image vectors [B, E], text vectors [B, E], the multiplier of their similarities."""


def embed_in_chunks(
    model: CLIP,
    forward_fn: ForwardFn,
    inputs: Sequence[Tensor],
    *,
    chunk_size: int | None,
    precision: TrainPrecision,
) -> TowerOutputs:
    """Embed a batch as `forward_fn` do, keeping the activations of one chunk only.

    One backward pass through the result gives the gradients of a batch that passed at once. They hold for what a
    tower draws, dropout for instance: a chunk's second pass repeats the numbers of its first, and afterwards the
    generators stand where one pass through all chunks leaves them. (On CPU and CUDA; not on MPS, where
    `torch.utils.checkpoint` does not restore them. The towers of `zebra.models` draw nothing.)

    Differs: batch norm sees the statistics of a chunk, not of the batch; its running statistics are updated once per
    chunk, in order.

    Args:
        model: The model by itself. All chunks but the last pass it bare: nothing is exchanged for them, and what
            the last one exchanges are the sums of all.
        forward_fn: The model spread over processes (`parallel.spread`), or itself.
        inputs: Normalised pixels [B, 3, H, W], float32; token ids [B, L], int64; for patch dropout, the patches that
            are seen [B, K], int64.
        chunk_size: Most pairs that pass the towers at once; chunks differ in size by at most one. None takes the batch.
        precision: Arithmetic of the towers, in both passes.

    Returns:
        What `forward_fn` return for the whole batch.
    """

    def passed(towers: ForwardFn, *chunk: Tensor) -> TowerOutputs:
        # Entered per chunk: autocast's one bf16 copy of a weight would sum the gradients of all chunks in bf16.
        with autocast(precision, chunk[0].device):
            return towers(*chunk)

    def first_and_second() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
        return nullcontext(), preserve_buffers(model)

    num_pairs = len(inputs[0])
    num_chunks = -(-num_pairs // (chunk_size or num_pairs))
    *early, last = zip(*(whole.tensor_split(num_chunks) for whole in inputs), strict=True)
    parts: list[TowerOutputs] = [
        checkpoint(passed, model, *chunk, use_reentrant=False, context_fn=first_and_second) for chunk in early
    ]
    parts.append(passed(forward_fn, *last))
    image_parts, text_parts, scales = zip(*parts, strict=True)
    return torch.cat(image_parts), torch.cat(text_parts), scales[-1]


@contextmanager
def preserve_buffers(model: nn.Module) -> Iterator[None]:
    """Undo what the block does to buffers: batch norm has counted this chunk in its first pass."""
    kept = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    finally:  # the second pass ends by an exception once it has all that the gradients need
        for buffer, value in zip(model.buffers(), kept, strict=True):
            buffer.copy_(value)
