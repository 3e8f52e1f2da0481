"""The page of `zebra bench`: plain text that can be pasted into an issue."""

from collections.abc import Iterator, Mapping, Sequence

from zebra.bench.encoders import Unavailable
from zebra.bench.machine import Machine
from zebra.bench.results import BenchResult, ThreadPass
from zebra.bench.workload import PROMPTS_PER_CLASS

Row = Sequence[str]
MAX_REASON = 120


def format_bench_page(result: BenchResult) -> str:
    """Return the page, at most 110 columns wide."""
    lines = [*_format_head(result), *_format_precisions(result)]
    for thread_pass in result.passes:
        lines += ["", *_format_pass(thread_pass, result.machine.device)]
    lines += ["", _format_search(result)]
    lines += [_format_missing(item) for item in result.unavailable]
    if any(thread_pass.is_busy for thread_pass in result.passes):
        lines += ["", "* BUSY: other processes took the cores during this pass. End them and measure again."]
    return "\n".join(lines)


def _format_head(result: BenchResult) -> Iterator[str]:
    machine, model = result.machine, result.model
    yield f"zebra bench: {model.name}, weights {model.weights}, {model.num_parameters:,} parameters, {machine.device}"
    yield f"processor    {machine.processor}; {_format_cores(machine)}"
    yield f"instructions {' '.join(machine.instruction_sets) or 'unknown'}"
    yield f"memory       {_format_bytes(machine.memory_bytes)}, {_format_bytes(machine.available_bytes)} free"
    packages = (f"{name} {version}" for name, version in machine.packages.items() if version)
    yield f"system       {machine.system}; python {machine.python}, zebra {machine.zebra}"
    yield f"packages     {', '.join(packages)}"
    if machine.environment:
        yield f"environment  {' '.join(f'{name}={value}' for name, value in machine.environment.items())}"
    yield f"image tower  {model.image_tower}; {_format_operations(model.gflops_per_image)} per image"
    texts = ""
    if model.gflops_per_caption is not None and model.gflops_per_prompt is not None:
        prompt, caption = (_format_operations(g) for g in (model.gflops_per_prompt, model.gflops_per_caption))
        texts = f"; {prompt} per prompt, {caption} per caption"
    yield f"text tower   {model.text_tower}{texts}"


def _format_cores(machine: Machine) -> str:
    parts = [f"{machine.usable_cores} of {machine.cores} cores"]
    if machine.core_limit is not None:
        parts.append(f"limit {machine.core_limit:g}")
    if machine.load_average is not None:
        parts.append(f"load {machine.load_average:.1f}")
    return ", ".join(parts)


def _format_precisions(result: BenchResult) -> Iterator[str]:
    has_gpu = any(facts.gpu_bytes is not None for facts in result.encoders)
    rows = [
        (
            facts.name,
            f"{facts.min_cosine:.5f}",
            _format_bytes(facts.weight_bytes),
            *([_format_bytes(facts.gpu_bytes)] if has_gpu else []),
        )
        for facts in result.encoders
    ]
    yield ""
    yield from _format_table(("", "least cosine", "weights", *(["GPU memory of a batch"] if has_gpu else [])), rows)
    peak = _format_bytes(result.peak_bytes)
    auto = ", ".join(f"{precision} for {tower}s" for tower, precision in result.auto.items())
    yield f"auto takes {auto}; peak memory with all libraries {peak}; measured in {result.seconds:.0f} s"


def _format_pass(thread_pass: ThreadPass, device: str) -> Iterator[str]:
    mark = " *" if thread_pass.is_busy else ""
    if thread_pass.num_threads == 1 and device == "cpu":
        yield f"ONE THREAD, per CPU-second{mark}"
    else:
        yield f"{thread_pass.num_threads} THREADS, per second{mark}"
    limits = [f"{limit.format} {limit.gflops:,.0f}" for limit in thread_pass.ceilings if limit.gflops is not None]
    yield f"ceiling: large matrix products, GFLOP: {', '.join(limits)}"
    images, texts = thread_pass.images, thread_pass.texts
    yield ""
    yield from _format_table(
        (
            f"JPEGs of 640 × 480, {thread_pass.num_images} at a time, {thread_pass.num_rounds} rounds",
            "decode",
            "tower",
            "of ceiling",
            "images",
        ),
        [
            (
                speed.name,
                _format_rate(speed.preprocess_per_second),
                _format_rate(speed.tower_per_second),
                _format_fraction(speed.ceiling_fraction),
                _format_rate(speed.images_per_second),
            )
            for speed in images
        ],
        [speed.times_peers for speed in images],
    )
    if not texts:
        return
    yield ""
    yield from _format_table(
        (f"80 × {thread_pass.num_prompts // PROMPTS_PER_CLASS} prompts", "texts"),
        [(speed.name, _format_rate(speed.prompts_per_second)) for speed in texts],
        [speed.prompts_times_peers for speed in texts],
    )
    yield ""
    yield from _format_table(
        (f"{thread_pass.num_captions} captions of 8 to 20 words", "texts", "of ceiling"),
        [
            (speed.name, _format_rate(speed.captions_per_second), _format_fraction(speed.ceiling_fraction))
            for speed in texts
        ],
        [speed.captions_times_peers for speed in texts],
    )


def _format_search(result: BenchResult) -> str:
    search = result.search
    if isinstance(search, Unavailable):
        return _format_missing(search)
    return (
        f"exact search in {search.num_vectors:,} vectors of {search.embed_dim} dimensions: {search.median_ms:.0f} ms, "
        f"{_format_bytes(search.memory_bytes)}"
    )


def _format_missing(item: Unavailable) -> str:
    shortened = item.reason if len(item.reason) <= MAX_REASON else f"{item.reason[:MAX_REASON]}…"
    return f"not measured: {item.name}: {shortened}"


def _format_table(head: Row, rows: Sequence[Row], ratios: Sequence[Mapping[str, float]] = ()) -> Iterator[str]:
    """Yield aligned lines: names on the left, numbers on the right, then a column of ratios for each peer."""
    peers = list(dict.fromkeys(peer for ratio in ratios for peer in ratio))
    table = [[*head, *(f"× {peer}" for peer in peers)]]
    for index, row in enumerate(rows):
        ratio = ratios[index] if ratios else {}
        table.append([*row, *(_format_ratio(ratio[peer]) if peer in ratio else "1" for peer in peers)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *cells in table:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *aligned])


def _format_ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"


def _format_rate(rate: float) -> str:
    return f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}"


def _format_operations(gflops: float) -> str:
    return f"{gflops:.1f} GFLOP" if gflops >= 1 else f"{1000 * gflops:.0f} MFLOP"


def _format_fraction(fraction: float | None) -> str:
    return "–" if fraction is None else f"{fraction:.0%}"


def _format_bytes(number: int | None) -> str:
    if number is None:
        return "–"
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
