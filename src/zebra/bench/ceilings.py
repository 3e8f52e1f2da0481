"""The speed of large matrix products, which limits the speed of a model."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from zebra.pretrained.device import has_native_bf16, has_native_fp16
from zebra.pretrained.int8 import has_packed_product

NumberFormat = Literal["fp32", "bf16", "fp16", "int8"]
SIZES = {"cpu": (1024, 2048), "cuda": (4096, 8192), "mps": (2048, 4096)}
"""Device type → rows and columns of the square matrices; the fastest size counts."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The measured limit of products in a number format."""

    format: NumberFormat
    gflops: float | None
    """10⁹ operations per second (int8: of integers), a multiply-add is two; on one thread, per CPU-second."""
    reason: str = ""
    """Why it was not measured."""


def measure_ceilings(device: torch.device, seconds: float, sizes: tuple[int, ...] | None = None) -> list[Ceiling]:
    """Measure every format with torch's current number of threads, in about `seconds` altogether."""
    sizes = sizes or SIZES[device.type]
    formats: tuple[NumberFormat, ...] = get_args(NumberFormat)
    return [_measure_format(format, device, seconds / len(formats), sizes) for format in formats]


def describe_missing_format(format: NumberFormat, device: torch.device) -> str:
    """Return why the hardware does not multiply a format; empty if it does."""
    if format == "bf16" and not has_native_bf16(device):
        return f"no bf16 instructions on {_describe_device(device)}"
    if format == "fp16" and not has_native_fp16(device):
        return f"no fp16 instructions on {_describe_device(device)}"
    return ""


def _describe_device(device: torch.device) -> str:
    return "this processor" if device.type == "cpu" else f"{device}"


def _measure_format(format: NumberFormat, device: torch.device, seconds: float, sizes: tuple[int, ...]) -> Ceiling:
    reason = describe_missing_format(format, device)
    if reason:
        return Ceiling(format, None, reason)
    try:
        gflops = max(
            _measure_product(product, device, seconds / len(sizes), size)
            for size in sizes
            for product in _make_products(format, device, size)
        )
    except (RuntimeError, NotImplementedError) as error:  # an operator that this device or build of torch lacks
        return Ceiling(format, None, f"torch cannot multiply it here: {str(error).splitlines()[0][:100]}")
    return Ceiling(format, gflops)


def _measure_product(multiply: Callable[[], object], device: torch.device, seconds: float, size: int) -> float:
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    best, start = float("inf"), time.perf_counter()
    multiply()
    _synchronize(device)
    while best == float("inf") or time.perf_counter() - start < seconds:
        began = clock()
        multiply()
        _synchronize(device)
        best = min(best, clock() - began)
    return 2 * size**3 / max(best, 1e-9) / 1e9


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _make_products(format: NumberFormat, device: torch.device, size: int) -> Iterator[Callable[[], Tensor]]:
    """Yield products of activations with transposed weights, as linear layers need them."""
    generator = torch.Generator().manual_seed(0)
    if format != "int8":
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[format]
        x, weight = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
        yield partial(torch.mm, x, weight.t())
        return
    x, weight = (
        torch.randint(-63, 64, (size, size), dtype=torch.int8, generator=generator).to(device) for _ in range(2)
    )
    yield partial(torch._int_mm, x, weight.t())
    if device.type == "cpu" and has_packed_product():  # as in `pretrained.int8`
        packed, scales, zeros = (
            torch.ops.onednn.qlinear_prepack(weight, None),
            torch.ones(size),
            torch.zeros(size, dtype=torch.int64),
        )
        yield lambda: torch.ops.onednn.qlinear_pointwise(
            x.view(torch.uint8), 1.0, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
