"""Automatic choice of the inference precision of each tower (`precision="auto"`)."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from platform import machine
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zebra.config.precision import InferencePrecision
from zebra.images.tensors import stack_pixels
from zebra.pretrained.bundle import BATCH_SIZE, Bundle
from zebra.pretrained.device import has_native_bf16, has_native_fp16
from zebra.pretrained.digests import has_passed, record_passed
from zebra.pretrained.golden import GOLDEN_TEXT, make_golden_image
from zebra.pretrained.int8 import can_quantize
from zebra.pretrained.precision import MIN_COSINE

Tower = Literal["image", "text"]

NUM_ROUNDS = 3
MAX_FIRST_ROUND_SECONDS = 3.0
"""If the first round takes longer, it is the only one."""
FP32_SECONDS = 0.7
"""Time that a batch should take in fp32, on a processor; a large model gets fewer inputs."""
MAX_INPUTS_ON_CPU = 10
"""Images, or texts of four times as many: about the tokens that the models process at once."""
VARIABLES = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_ENABLE_INSTRUCTIONS",
)
"""Environment variables that change the instructions of matrix products."""


@dataclass(frozen=True, slots=True)
class PrecisionTrial:
    """Accuracy and speed of a tower in a precision on built-in inputs."""

    precision: InferencePrecision
    min_cosine: float
    """Smallest cosine of a vector to its fp32 vector."""
    seconds: float
    """Time for all inputs in the best round; on a CPU, CPU time of one thread, which excludes other programs."""


def pick_precision(bundle: Bundle, tower: Tower = "image") -> InferencePrecision:
    """Return the fastest accurate precision of a tower; cached by model, software and processor.

    The choice is made with one thread, so it does not depend on the number of threads.
    """
    candidates = candidate_precisions(bundle, tower)
    if not candidates:
        return "fp32"
    cache_key = f"auto {tower} {bundle.fingerprint} {_describe_environment(bundle)}: "
    for precision in (*candidates, "fp32"):
        if bundle.fingerprint and has_passed(cache_key + precision):
            return precision
    fastest = pick_fastest(benchmark_precisions(bundle, candidates, tower))
    if bundle.fingerprint:  # a model that was never saved has none
        record_passed(cache_key + fastest)
    return fastest


def candidate_precisions(bundle: Bundle, tower: Tower = "image") -> list[InferencePrecision]:
    """Return the precisions that can be faster than fp32 on this device; none for a tower that cannot be used."""
    if tower == "text" and bundle.tokenizer is None:
        return []
    # Without these, torch may have no vectorized int8 product. Not measured.
    has_fast_int8 = machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    module = bundle.model.visual if tower == "image" else bundle.model.text
    is_candidate: dict[InferencePrecision, bool] = {
        "int8": bundle.device.type == "cpu" and has_fast_int8 and can_quantize(module),
        "bf16": has_native_bf16(bundle.device),
        "fp16": has_native_fp16(bundle.device),
    }
    return [precision for precision, candidate in is_candidate.items() if candidate]


def benchmark_precisions(
    bundle: Bundle, precisions: Sequence[InferencePrecision], tower: Tower = "image"
) -> list[PrecisionTrial]:
    """Time a tower in the precisions and in fp32, and compare its vectors.

    The inputs are preprocessed or tokenized beforehand, and as many as the tower processes at once in practice: with
    fewer, the best precision can be another one.
    """
    is_cpu = bundle.device.type == "cpu"
    max_inputs = MAX_INPUTS_ON_CPU if is_cpu else BATCH_SIZE
    names: list[InferencePrecision] = [*precisions, "fp32"]
    if tower == "image":
        bundles = {name: bundle.to_precision(name, "fp32") for name in names}
        images = [make_golden_image(), *_make_test_images(bundle.image_size, max_inputs - 1)]
        pixels = [bundle.preprocess.resize_and_crop(image) for image in images]
        encoders = {
            name: lambda count, cast=cast: cast.encode_pixels(stack_pixels(pixels[:count]))
            for name, cast in bundles.items()
        }
    else:
        bundles = {name: bundle.to_precision("fp32", name) for name in names}
        texts = [GOLDEN_TEXT, *_make_test_texts(4 * max_inputs - 1)]
        ids_NL = bundle.require_tokenizer().encode(texts, truncate=True).ids
        encoders = {
            name: lambda count, cast=cast: _encode_ids(cast, ids_NL[: 4 * count]) for name, cast in bundles.items()
        }
    clock = time.thread_time if is_cpu else time.perf_counter
    with _single_thread():
        start = clock()
        encoders["fp32"](1)
        count = max(2, min(max_inputs, int(FP32_SECONDS / (clock() - start)))) if is_cpu else max_inputs
        return _run_trials(encoders, count, clock)


def _encode_ids(bundle: Bundle, ids_NL: NDArray[np.int64]) -> Tensor:
    """Return the vectors [N, E] of tokenized texts, on the CPU."""
    vectors_NE = torch.empty(len(ids_NL), bundle.model.config.embed_dim)
    with torch.inference_mode():
        for rows in bundle.model.text.inference_batches(ids_NL):
            tokens = torch.from_numpy(ids_NL[rows]).to(bundle.device)
            vectors_NE[rows] = bundle.model.encode_texts(tokens).cpu()
    return vectors_NE


def _run_trials(
    encoders: Mapping[InferencePrecision, Callable[[int], Tensor]], count: int, clock: Callable[[], float]
) -> list[PrecisionTrial]:
    """Time encoders that take turns, so that a slow phase of the machine affects all of them."""
    vectors, seconds = {}, dict.fromkeys(encoders, math.inf)
    for _ in range(NUM_ROUNDS):
        for precision, encode in encoders.items():
            start = clock()
            vectors[precision] = encode(count)
            seconds[precision] = min(seconds[precision], clock() - start)
        if sum(seconds.values()) > MAX_FIRST_ROUND_SECONDS:
            break
    return [
        PrecisionTrial(
            precision=precision,
            min_cosine=float((vectors[precision] * vectors["fp32"]).sum(dim=1).min()),
            seconds=seconds[precision],
        )
        for precision in encoders
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


def _make_test_images(size: int, number: int) -> list[Image.Image]:
    """Draw random colors on coarse to fine grids, smoothed."""
    rng = np.random.default_rng(0)
    cells = [(2, 8, 32)[index % 3] for index in range(number)]
    grids = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in cells]
    return [Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC) for grid in grids]


def _make_test_texts(number: int) -> list[str]:
    """Return distinct sentences, of which some share their first words."""
    things = ("red car", "black dog on the grass", "woman with an umbrella", "bowl of soup", "mountain at night")
    looks = ("a photo of a {}", "a {} in the rain, seen from above", "the {} next to an old house", "two of them: {}")
    sentences = [look.format(thing) for thing in things for look in looks]
    return [f"{sentences[index % len(sentences)]} {index}" for index in range(number)]


def _describe_environment(bundle: Bundle) -> str:
    """Return what the speed of the precisions depends on: device, instruction set in force, versions."""
    parts = [str(bundle.device), _describe_processor(bundle.device)]
    parts += [f"{name} {metadata.version(name)}" for name in ("zebra-clip", "torch", *bundle.model.config.libraries)]
    return " ".join(parts)


def _describe_processor(device: torch.device) -> str:
    """Return the name of a GPU, or of a processor with the instructions that torch and oneDNN may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    name = capabilities.get("cpu_name", machine())  # a virtual machine may hide instructions of the processor
    instructions = sorted(name for name, value in capabilities.items() if value is True)
    limits = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    limits.append(torch.get_float32_matmul_precision())
    return " ".join([str(name), torch.backends.cpu.get_cpu_capability(), *instructions, *limits])
