"""The first run of each encoder: vectors, memory and operations; it is not timed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from zebra.bench.encoders import Encoder
from zebra.bench.flops import count_flops
from zebra.bench.memory_peak import run_with_gpu_peak
from zebra.bench.results import EncoderFacts
from zebra.bench.workload import Workload

NUM_COMPARED = 8
"""Images and texts whose vectors are compared."""


@dataclass(frozen=True, slots=True)
class FlopCounts:
    """Operations of zebra's towers per image and per text."""

    image: float
    prompt: float | None
    """With prefixes shared among the prompts; None without texts."""
    caption: float | None


def warm_up(
    encoders: Sequence[Encoder], workload: Workload, device: torch.device
) -> tuple[list[EncoderFacts], FlopCounts]:
    """Run every encoder; compare its vectors with those of the first one, zebra in fp32."""
    facts: list[EncoderFacts] = []
    reference = torch.empty(0)
    for encoder in encoders:
        pixels = encoder.preprocess(workload.jpegs)
        gpu_bytes = run_with_gpu_peak(partial(encoder.encode_images, pixels), device)
        vectors = [encoder.encode_images(encoder.preprocess(workload.jpegs[:NUM_COMPARED]))]
        if encoder.encode_texts is not None:
            vectors.append(encoder.encode_texts(workload.captions[:NUM_COMPARED]))
            if not encoder.is_peer:
                encoder.encode_texts(workload.prompts)
        if not facts:
            reference = torch.cat(vectors)
        cosine = _min_cosine(torch.cat(vectors), reference)
        facts.append(EncoderFacts(encoder.name, cosine, encoder.weight_bytes, gpu_bytes))
    return facts, _count_flops(encoders[0], workload)


def _count_flops(fp32: Encoder, workload: Workload) -> FlopCounts:
    jpegs, texts = workload.jpegs[:1], (workload.prompts, workload.captions)
    image = float(count_flops(partial(fp32.encode_images, fp32.preprocess(jpegs))))
    if fp32.encode_texts is None:
        return FlopCounts(image, None, None)
    prompt, caption = (count_flops(partial(fp32.encode_texts, items)) / len(items) for items in texts)
    return FlopCounts(image, prompt, caption)


def _min_cosine(vectors_NE: Tensor, reference_NE: Tensor) -> float:
    """Return the smallest cosine of vectors in the same order; the first may be those of the images only."""
    return float((vectors_NE * reference_NE[: len(vectors_NE)]).sum(dim=1).min())
