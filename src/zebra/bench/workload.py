"""What is encoded in every round, chosen by the speed of the machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from zebra.bench.encoders import Encoder
from zebra.bench.inputs import draw_jpegs, make_captions, make_prompts
from zebra.bench.rounds import time_once

PROMPTS_PER_CLASS = 80
CLASS_COUNTS = (1, 2, 5, 10, 25)
BATCH_SIZES = (4, 8, 16, 32)
GPU_BATCH_SIZES = (32, 64, 128, 256)
CAPTION_COUNTS = (16, 32, 64, 128, 256, 512)
NUM_PROBED = 4
"""Images and texts by which the speed is estimated."""
IMAGE_SHARE = 0.4
"""Share of the time for images; the rest is for texts."""
TEXT_SHARES = {"prompts": 0.45, "captions": 0.2, "peers": 0.35}
"""Shares of the time for texts."""
NUM_RUNS = 3
"""Runs of everything: a warm-up and two rounds."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Images and texts."""

    jpegs: Sequence[bytes]
    prompts: Sequence[str]
    """80 templates for each of some classes; none if texts are not measured."""
    captions: Sequence[str]
    num_peer_texts: int

    def captions_for(self, encoder: Encoder) -> Sequence[str]:
        """Return the captions of an encoder; peers take fewer, because padding makes all texts equally slow."""
        return self.captions[: self.num_peer_texts] if encoder.is_peer else self.captions


def plan_workload(encoders: Sequence[Encoder], seconds: float, device: torch.device) -> Workload:
    """Choose a workload that all encoders can run NUM_RUNS times in about `seconds`.

    Args:
        encoders: zebra in fp32 first, which is assumed to be the slowest with images.
    """
    fp32 = encoders[0]
    batch_sizes = BATCH_SIZES if device.type == "cpu" else GPU_BATCH_SIZES
    pixels = fp32.preprocess(draw_jpegs(NUM_PROBED))
    image_seconds = _seconds_per_item(partial(fp32.encode_images, pixels), NUM_PROBED) * len(encoders)
    jpegs = draw_jpegs(_largest_fitting(batch_sizes, IMAGE_SHARE * seconds / NUM_RUNS / image_seconds))
    if fp32.encode_texts is None:
        return Workload(jpegs, (), (), 0)

    text_seconds = (1 - IMAGE_SHARE) * seconds / NUM_RUNS
    num_own = sum(not encoder.is_peer for encoder in encoders)
    prompts, captions = make_prompts(1), make_captions(NUM_PROBED)
    class_seconds = _seconds_per_item(partial(fp32.encode_texts, prompts), 1) * num_own
    caption_seconds = _seconds_per_item(partial(fp32.encode_texts, captions), NUM_PROBED) * num_own
    peer_seconds = [
        _seconds_per_item(partial(encoder.encode_texts, captions), NUM_PROBED)
        for encoder in encoders
        if encoder.is_peer and encoder.encode_texts
    ]
    num_classes = _largest_fitting(CLASS_COUNTS, TEXT_SHARES["prompts"] * text_seconds / class_seconds)
    num_captions = _largest_fitting(CAPTION_COUNTS, TEXT_SHARES["captions"] * text_seconds / caption_seconds)
    num_peer_texts = 0
    if peer_seconds:
        num_peer_texts = _largest_fitting(batch_sizes, TEXT_SHARES["peers"] * text_seconds / sum(peer_seconds))
    num_captions = max(num_captions, num_peer_texts)
    return Workload(jpegs, make_prompts(num_classes), make_captions(num_captions), num_peer_texts)


def _seconds_per_item(run: Callable[[], object], num_items: int) -> float:
    run()
    return max(time_once(run).seconds / num_items, 1e-7)


def _largest_fitting(sizes: Sequence[int], limit: float) -> int:
    return max((size for size in sizes if size <= limit), default=sizes[0])
