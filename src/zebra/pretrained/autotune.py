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

from zebra.models.image.resnet import ModifiedResNet
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.digests import has_passed, remember_passed
from zebra.pretrained.golden import TEXT, golden_picture
from zebra.pretrained.precision import LEAST_COSINE, Precision, multiplies_bf16

ROUNDS = 2
PATIENCE_SECONDS = 3.0
"""A model that takes longer in its first round has only that one."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How a format did with the built-in pictures and text."""

    precision: Precision
    cosine: float
    """The smallest cosine of a vector to the same in fp32."""
    seconds: float
    """For the pictures, in the best round; on a CPU, those of one thread, which other programs do not lengthen."""


def choose(bundle: Bundle) -> Precision:
    """Return the format to take; a choice is remembered for this model, processor and release of torch."""
    formats = candidates(bundle)
    if not formats:
        return "fp32"
    where = f"{bundle.device} {_processor(bundle.device)} torch {torch.__version__}"
    asked = f"auto {bundle.fingerprint} {where}: "
    for precision in (*formats, "fp32"):
        if has_passed(asked + precision):
            return precision
    chosen = fastest(trials(bundle, formats))
    remember_passed(asked + chosen)
    return chosen


def candidates(bundle: Bundle) -> list[Precision]:
    """Return the formats that can be faster than fp32 on this device."""
    # On other processors torch may multiply int8 number by number; nobody measured it.
    fast_int8 = machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    able: dict[Precision, bool] = {
        "int8": bundle.device.type == "cpu"
        and fast_int8
        and not isinstance(bundle.model.visual, ModifiedResNet),
        "bf16": multiplies_bf16(bundle.device),
    }
    return [precision for precision, there in able.items() if there]


def trials(bundle: Bundle, formats: list[Precision]) -> list[Trial]:
    """Embed the built-in pictures, and a text if the model reads, in each of the formats, which take turns."""
    pictures = [golden_picture(), *_pictures(bundle.image_size)]
    clips = {precision: bundle.in_precision(precision) for precision in (*formats, "fp32")}
    now = time.thread_time if bundle.device.type == "cpu" else time.perf_counter
    vectors, seconds = {}, dict.fromkeys(clips, math.inf)
    with _one_thread():
        for _ in range(ROUNDS):
            for precision, clip in clips.items():
                began = now()
                images = clip.encode_images(pictures)
                seconds[precision] = min(seconds[precision], now() - began)
                texts = [clip.encode_texts([TEXT])] if clip.tokenizer else []
                vectors[precision] = torch.cat([images, *texts])
            if sum(seconds.values()) > PATIENCE_SECONDS:
                break
    return [
        Trial(
            precision=precision,
            cosine=float((vectors[precision] * vectors["fp32"]).sum(dim=1).min()),
            seconds=seconds[precision],
        )
        for precision in clips
    ]


def fastest(outcomes: list[Trial]) -> Precision:
    """Return the fastest format that keeps the cosine; NaN keeps none."""
    true = [trial for trial in outcomes if trial.precision == "fp32" or trial.cosine >= LEAST_COSINE]
    return min(true, key=lambda trial: trial.seconds).precision


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pictures(size: int) -> list[Image.Image]:
    """Draw random colours on coarse to fine grids, smoothed."""
    random = np.random.default_rng(0)
    grids = [random.integers(0, 256, (cells, cells, 3), dtype=np.uint8) for cells in (2, 8, 32)]
    return [Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC) for grid in grids]


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return f"{able.get('cpu_name', machine())} {torch.backends.cpu.get_cpu_capability()}"
