"""`precision="auto"`: a model in fp32 in; the fastest number format with vectors true enough, measured here, out."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from platform import machine

import numpy as np
import torch
from PIL import Image

from zebra.config.precision import InferencePrecision
from zebra.models.image.resnet import ModifiedResNet
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import has_native_bf16
from zebra.pretrained.digests import has_passed, record_passed
from zebra.pretrained.golden import GOLDEN_TEXT, make_golden_image
from zebra.pretrained.precision import MIN_COSINE

NUM_ROUNDS = 2
MAX_FIRST_ROUND_SECONDS = 3.0
"""A model that takes longer in its first round has only that one."""


@dataclass(frozen=True, slots=True)
class PrecisionTrial:
    """How a format did with the built-in pictures and text."""

    precision: InferencePrecision
    min_cosine: float
    """The smallest cosine of a vector to the same in fp32."""
    seconds: float
    """For the pictures, in the best round; on a CPU, those of one thread, which other programs do not lengthen."""


def pick_precision(bundle: Bundle) -> InferencePrecision:
    """Return the format to take; a choice is remembered for this model, processor and release of torch."""
    formats = candidate_precisions(bundle)
    if not formats:
        return "fp32"
    where = f"{bundle.device} {_processor_name(bundle.device)} torch {torch.__version__}"
    asked = f"auto {bundle.fingerprint} {where}: "
    for precision in (*formats, "fp32"):
        if has_passed(asked + precision):
            return precision
    chosen = pick_fastest(benchmark_precisions(bundle, formats))
    record_passed(asked + chosen)
    return chosen


def candidate_precisions(bundle: Bundle) -> list[InferencePrecision]:
    """Return the formats that can be faster than fp32 on this device."""
    # On other processors torch may multiply int8 number by number; nobody measured it.
    fast_int8 = machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    able: dict[InferencePrecision, bool] = {
        "int8": bundle.device.type == "cpu"
        and fast_int8
        and not isinstance(bundle.model.visual, ModifiedResNet),
        "bf16": has_native_bf16(bundle.device),
    }
    return [precision for precision, there in able.items() if there]


def benchmark_precisions(bundle: Bundle, precisions: list[InferencePrecision]) -> list[PrecisionTrial]:
    """Embed the built-in pictures, and a text if the model reads, in each of the formats, which take turns."""
    pictures = [make_golden_image(), *_make_test_images(bundle.image_size)]
    clips = {precision: bundle.to_precision(precision) for precision in (*precisions, "fp32")}
    now = time.thread_time if bundle.device.type == "cpu" else time.perf_counter
    vectors, seconds = {}, dict.fromkeys(clips, math.inf)
    with _single_thread():
        for _ in range(NUM_ROUNDS):
            for precision, clip in clips.items():
                began = now()
                images = clip.encode_images(pictures)
                seconds[precision] = min(seconds[precision], now() - began)
                texts = [clip.encode_texts([GOLDEN_TEXT])] if clip.tokenizer else []
                vectors[precision] = torch.cat([images, *texts])
            if sum(seconds.values()) > MAX_FIRST_ROUND_SECONDS:
                break
    return [
        PrecisionTrial(
            precision=precision,
            min_cosine=float((vectors[precision] * vectors["fp32"]).sum(dim=1).min()),
            seconds=seconds[precision],
        )
        for precision in clips
    ]


def pick_fastest(trials: list[PrecisionTrial]) -> InferencePrecision:
    """Return the fastest format that keeps the cosine; NaN keeps none."""
    true = [trial for trial in trials if trial.precision == "fp32" or trial.min_cosine >= MIN_COSINE]
    return min(true, key=lambda trial: trial.seconds).precision


@contextmanager
def _single_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _make_test_images(size: int) -> list[Image.Image]:
    """Draw random colours on coarse to fine grids, smoothed."""
    random = np.random.default_rng(0)
    grids = [random.integers(0, 256, (cells, cells, 3), dtype=np.uint8) for cells in (2, 8, 32)]
    return [Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC) for grid in grids]


def _processor_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return f"{able.get('cpu_name', machine())} {torch.backends.cpu.get_cpu_capability()}"
