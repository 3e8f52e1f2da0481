"""`zebra bench`: measure a model on this machine, beside other libraries."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from zebra.bench.ceilings import measure_ceilings
from zebra.bench.encoders import Encoder, Unavailable, open_precisions
from zebra.bench.machine import describe_machine
from zebra.bench.memory_peak import peak_resident_bytes
from zebra.bench.peers import open_onnxruntime, open_peers
from zebra.bench.random_model import ARCHITECTURE, WEIGHT_BYTES, build_random_model
from zebra.bench.results import BenchModel, BenchResult, EncoderFacts, ThreadPass
from zebra.bench.search_speed import NUM_VECTORS, measure_search
from zebra.bench.thread_pass import run_pass, use_threads
from zebra.bench.warm_up import FlopCounts, warm_up
from zebra.bench.workload import plan_workload
from zebra.config.bench import BenchConfig
from zebra.config.cores import usable_cores
from zebra.config.memory import available_memory
from zebra.errors import ConfigError
from zebra.pretrained.autotune import pick_precision
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import use_device
from zebra.pretrained.load import load

MEMORY_FACTOR = 2.0
"""Free memory that a measurement needs, in sizes of the weights: smaller precisions and activations."""
SETUP_FRACTION = 0.35
"""Share of the time after which no graph for onnxruntime is written, which takes 15 seconds for ViT-B/32."""
CEILING_FRACTION = 0.03
"""Share of the time for the ceilings of a pass."""
SEARCH_SECONDS_PER_DIMENSION = 0.008
"""Upper estimate of the time for a million vectors on a slow core."""
NO_TIME = "no time was left; measure longer with --seconds 180"

Callback = Callable[[int, int, str], None]


class Stopwatch:
    """The time that a measurement has taken and may take."""

    def __init__(self, seconds: float, callback: Callback) -> None:
        self.total = seconds
        self._start = time.monotonic()
        self._callback = callback

    @property
    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._start

    def left(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self.total - self.elapsed)

    def report(self, stage: str) -> None:
        """Tell what is measured next."""
        self._callback(min(round(self.elapsed), round(self.total)), round(self.total), stage)


def run(config: BenchConfig, *, callback: Callback = lambda _done, _total, _stage: None) -> BenchResult:
    """Measure a model and every library that can run it.

    Args:
        callback: Called with the seconds that have passed, those that are planned, and what is measured next.

    Raises:
        WeightsError: The model is incomplete, damaged, of an unsupported architecture, or has no image tower.
        ConfigError: The device is not available, or there is too little memory for the model.
    """
    watch = Stopwatch(config.seconds, callback)
    watch.report("opening the model")
    with use_device(config.device) as device, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* texts were truncated")  # captions are longer than tiny contexts
        machine = describe_machine(device)
        bundle = _open_model(config.model, device)
        own = open_precisions(bundle)
        watch.report("choosing a precision")
        auto = {"image": pick_precision(bundle)}
        if bundle.tokenizer is not None:
            auto["text"] = pick_precision(bundle, "text")
        watch.report("opening other libraries")
        with open_peers(bundle) as peers:
            measurement = _Measurement(bundle, [*own, *peers], watch)
            counts = _thread_counts(device)
            for index, num_threads in enumerate(counts):
                with use_threads(num_threads):
                    measurement.run_pass((watch.left() - _search_seconds(bundle)) / (len(counts) - index))
        watch.report(f"searching {NUM_VECTORS:,} vectors")
        search = (
            measure_search(bundle.embed_dim)
            if watch.left() >= _search_seconds(bundle)
            else Unavailable(f"search in {NUM_VECTORS:,} vectors", NO_TIME)
        )
    watch.report("done")
    return BenchResult(
        machine=machine,
        model=_describe_model(config.model, bundle, measurement.flops),
        encoders=measurement.facts,
        auto=auto,
        unavailable=measurement.unavailable,
        passes=measurement.passes,
        search=search,
        peak_bytes=peak_resident_bytes(),
        seconds=watch.elapsed,
    )


class _Measurement:
    """The passes so far, and what the first one found that does not depend on threads."""

    def __init__(self, bundle: Bundle, opened: list[Encoder | Unavailable], watch: Stopwatch) -> None:
        self._bundle, self._watch = bundle, watch
        self._encoders = [item for item in opened if isinstance(item, Encoder)]
        self._writes_graph = watch.elapsed < SETUP_FRACTION * watch.total
        self.unavailable = [item for item in opened if isinstance(item, Unavailable)]
        self.passes: list[ThreadPass] = []
        self.facts: list[EncoderFacts] = []
        self.flops = FlopCounts(0.0, None, None)

    def run_pass(self, seconds: float) -> None:
        """Measure everything with torch's current number of threads."""
        device, start = self._bundle.device, self._watch.elapsed
        threads = "1 thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"
        self._watch.report(f"matrix products, {threads}")
        ceilings = measure_ceilings(device, CEILING_FRACTION * self._watch.total)
        self._watch.report(f"images and texts, {threads}")
        onnxruntime = self._open_onnxruntime()
        encoders = self._encoders if isinstance(onnxruntime, Unavailable) else [*self._encoders, onnxruntime]
        workload = plan_workload(encoders, seconds - (self._watch.elapsed - start), device)
        facts, flops = warm_up(encoders, workload, device)
        if not self.passes:
            self.facts, self.flops = facts, flops
            self.unavailable += [onnxruntime] if isinstance(onnxruntime, Unavailable) else []
        left = seconds - (self._watch.elapsed - start)
        self.passes.append(run_pass(encoders, workload, flops, ceilings, seconds=left, device=device))

    def _open_onnxruntime(self) -> Encoder | Unavailable:
        if not self._writes_graph:
            return Unavailable("onnxruntime", NO_TIME)
        return open_onnxruntime(self._bundle)


def _open_model(name: str, device: torch.device) -> Bundle:
    """Load a model in fp32, or make one with random weights."""
    if not name:
        _require_memory(WEIGHT_BYTES + MEMORY_FACTOR * WEIGHT_BYTES)
        return build_random_model(device)
    bundle = load(name, device=str(device))
    _require_memory(MEMORY_FACTOR * sum(parameter.nbytes for parameter in bundle.model.parameters()))
    return bundle


def _require_memory(num_bytes: float) -> None:
    free = available_memory()
    if free is not None and free < num_bytes:
        raise ConfigError(
            f"the measurement needs about {num_bytes / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB is free. "
            "End other programs, or measure a smaller model."
        )


def _thread_counts(device: torch.device) -> list[int]:
    """Return the numbers of threads to measure: one, and all that torch may use; on a GPU only the latter."""
    most = max(1, min(torch.get_num_threads(), usable_cores()))
    return sorted({1, most}) if device.type == "cpu" else [most]


def _search_seconds(bundle: Bundle) -> float:
    return SEARCH_SECONDS_PER_DIMENSION * bundle.embed_dim


def _describe_model(name: str, bundle: Bundle, flops: FlopCounts) -> BenchModel:
    config = bundle.model.config
    return BenchModel(
        name=(Path(name).resolve().name if Path(name).exists() else name) if name else ARCHITECTURE,
        weights="from the model" if name else "random",
        image_tower=config.vision.describe(config.image_size),
        text_tower=config.text.describe() if bundle.tokenizer is not None else "not measured: no tokenizer",
        image_size=config.image_size,
        embed_dim=bundle.embed_dim,
        num_parameters=bundle.num_parameters,
        gflops_per_image=flops.image / 1e9,
        gflops_per_prompt=None if flops.prompt is None else flops.prompt / 1e9,
        gflops_per_caption=None if flops.caption is None else flops.caption / 1e9,
    )
