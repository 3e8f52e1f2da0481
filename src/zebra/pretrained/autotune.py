"""Automatic choice of the inference precision (`precision="auto"`)."""

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
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import has_native_bf16
from zebra.pretrained.digests import has_passed, record_passed
from zebra.pretrained.golden import GOLDEN_TEXT, make_golden_image
from zebra.pretrained.int8 import can_quantize
from zebra.pretrained.precision import MIN_COSINE

NUM_ROUNDS = 2
MAX_FIRST_ROUND_SECONDS = 3.0
"""If the first round takes longer, it is the only one."""


@dataclass(frozen=True, slots=True)
class PrecisionTrial:
    """Accuracy and speed of a precision on the built-in images and text."""

    precision: InferencePrecision
    min_cosine: float
    """Smallest cosine of a vector to its fp32 vector."""
    seconds: float
    """Time for the images in the best round; on a CPU, CPU time of one thread, which excludes other programs."""


def pick_precision(bundle: Bundle) -> InferencePrecision:
    """Return the fastest accurate precision; cached by model, processor and version of torch."""
    candidates = candidate_precisions(bundle)
    if not candidates:
        return "fp32"
    environment = f"{bundle.device} {_processor_name(bundle.device)} torch {torch.__version__}"
    cache_key = f"auto {bundle.fingerprint} {environment}: "
    for precision in (*candidates, "fp32"):
        if has_passed(cache_key + precision):
            return precision
    fastest = pick_fastest(benchmark_precisions(bundle, candidates))
    record_passed(cache_key + fastest)
    return fastest


def candidate_precisions(bundle: Bundle) -> list[InferencePrecision]:
    """Return the precisions that can be faster than fp32 on this device."""
    # Without these, torch may have no vectorized int8 product. Not measured.
    has_fast_int8 = machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    is_candidate: dict[InferencePrecision, bool] = {
        "int8": bundle.device.type == "cpu" and has_fast_int8 and can_quantize(bundle.model.visual),
        "bf16": has_native_bf16(bundle.device),
    }
    return [precision for precision, candidate in is_candidate.items() if candidate]


def benchmark_precisions(bundle: Bundle, precisions: list[InferencePrecision]) -> list[PrecisionTrial]:
    """Time and compare the precisions and fp32 on built-in images and, with a tokenizer, a text.

    The precisions take turns in every round, so that a slow phase of the machine affects all of them.
    """
    images = [make_golden_image(), *_make_test_images(bundle.image_size)]
    bundles = {precision: bundle.to_precision(precision) for precision in (*precisions, "fp32")}
    clock = time.thread_time if bundle.device.type == "cpu" else time.perf_counter
    vectors, seconds = {}, dict.fromkeys(bundles, math.inf)
    with _single_thread():
        for _ in range(NUM_ROUNDS):
            for precision, cast_bundle in bundles.items():
                start = clock()
                image_NE = cast_bundle.encode_images(images)
                seconds[precision] = min(seconds[precision], clock() - start)
                texts = [cast_bundle.encode_texts([GOLDEN_TEXT])] if cast_bundle.tokenizer else []
                vectors[precision] = torch.cat([image_NE, *texts])
            if sum(seconds.values()) > MAX_FIRST_ROUND_SECONDS:
                break
    return [
        PrecisionTrial(
            precision=precision,
            min_cosine=float((vectors[precision] * vectors["fp32"]).sum(dim=1).min()),
            seconds=seconds[precision],
        )
        for precision in bundles
    ]


def pick_fastest(trials: list[PrecisionTrial]) -> InferencePrecision:
    """Return the fastest precision whose vectors have a cosine of at least MIN_COSINE; NaN fails."""
    accurate = [trial for trial in trials if trial.precision == "fp32" or trial.min_cosine >= MIN_COSINE]
    return min(accurate, key=lambda trial: trial.seconds).precision


@contextmanager
def _single_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _make_test_images(size: int) -> list[Image.Image]:
    """Draw random colors on coarse to fine grids, smoothed."""
    rng = np.random.default_rng(0)
    grids = [rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8) for cells in (2, 8, 32)]
    return [Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC) for grid in grids]


def _processor_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return f"{capabilities.get('cpu_name', machine())} {torch.backends.cpu.get_cpu_capability()}"
