"""Time and memory of contrastive losses, forward and backward, dense and in tiles, by batch size.

    python benchmarks/losses.py [--pairs 1024 … 65536] [--width 512] [--threads T] [--repeats 3] [--only tiled labels]

Labels are those of `label_N`, in tiles; two pairs share each. Every number is measured in its own process: the best
time of the repeats, wall and CPU (the latter is comparable on a shared machine with one thread), and the peak of
resident memory minus the memory before and the gradients of images and texts. Variants that hold the complete matrix
are skipped where it does not fit into memory. If open_clip is installed, its losses are measured with their defaults.
Rows go to results/losses.jsonl, one for each number of pairs, and the curves of this run to results/losses.svg.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from receipt import RESULTS, save_row
from zebra.losses import info_nce, sigmoid_loss

SCALE, BIAS = 50.0, -10.0
MAX_MATRICES = 6
"""Upper bound on the number of fp32 N × N matrices that any variant holds at its peak."""


def peer() -> ModuleType | None:
    """Return only open_clip's module of losses; the package also imports torchvision, which no loss needs."""
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        return None
    spec = importlib.util.spec_from_file_location(
        "open_clip_loss", Path(package.submodule_search_locations[0]) / "loss.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def variant(name: str) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return a variant of a loss of images, texts, scale and bias."""
    match name:
        case "info_nce tiled":
            return lambda image, text, scale, _: info_nce(image, text, scale)
        case "info_nce labels":
            return lambda image, text, scale, _: info_nce(image, text, scale, label_N=paired_labels(len(text)))
        case "info_nce dense":
            return lambda image, text, scale, _: info_nce(image, text, scale, tile_rows=None)
        case "info_nce open_clip":
            clip_loss = peer().ClipLoss()
            return lambda image, text, scale, _: clip_loss(image, text, scale)
        case "sigmoid tiled":
            return sigmoid_loss
        case "sigmoid labels":
            return lambda *values: sigmoid_loss(*values, label_N=paired_labels(len(values[1])))
        case "sigmoid dense":
            return lambda image, text, scale, bias: sigmoid_loss(image, text, scale, bias, tile_rows=None)
        case "sigmoid open_clip":
            return peer().SigLipLoss()
    raise ValueError(name)


def paired_labels(num_pairs: int) -> Tensor:
    """Return labels that two pairs each share, int64 [N]."""
    return torch.arange(num_pairs) // 2


def measure(name: str, num_pairs: int, width: int, repeats: int) -> dict[str, float]:
    """Measure one variant in this process."""
    loss = variant(name)
    values: list[Tensor] = []

    def step(num_pairs: int, width: int) -> tuple[float, float, float]:
        torch.manual_seed(0)
        values[:] = [F.normalize(torch.randn(num_pairs, width), dim=1) for _ in range(2)]
        values.extend([torch.tensor(SCALE), torch.tensor(BIAS)])
        for value in values:
            value.requires_grad_()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        start, cpu_start = time.perf_counter(), time.process_time()
        result = loss(*values)
        result.backward()
        return time.perf_counter() - start, time.process_time() - cpu_start, resident

    step(32, 16)  # libraries are loaded and start their threads
    first = step(num_pairs, width)
    peak = peak_bytes()
    steps = [first, *(step(num_pairs, width) for _ in range(repeats - 1))]
    seconds, cpu_seconds, _ = (min(values) for values in zip(*steps, strict=True))
    extra = peak - first[2] - 2 * num_pairs * width * 4
    return {
        "seconds": round(seconds, 4),
        "cpu_seconds": round(cpu_seconds, 4),
        "extra_mib": round(max(extra, 0) / 2**20, 1),
    }


def peak_bytes() -> int:
    """Return the peak memory of this process; `ru_maxrss` would include the peak of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def measure_in_subprocess(name: str, num_pairs: int, args: argparse.Namespace) -> dict[str, float]:
    """Measure one variant in its own process."""
    command = [sys.executable, __file__, "--variant", name, "--pairs", str(num_pairs), "--width", str(args.width)]
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    process = subprocess.run(
        [*command, "--repeats", str(args.repeats)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(process.stdout)


def names(num_pairs: int, only: list[str] | None) -> list[str]:
    """Return the variants that fit into this machine's memory at this size, of those in `only`."""
    available = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    variants = ["tiled", "labels"]
    if MAX_MATRICES * num_pairs**2 * 4 < available:
        variants += ["dense", "open_clip"] if peer() else ["dense"]
    return [f"{loss} {how}" for loss in ("info_nce", "sigmoid") for how in variants if only is None or how in only]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot seconds and memory against the number of pairs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for panel, key, title in zip(
        panels, ("seconds", "extra_mib"), ("forward and backward, seconds", "extra memory, MiB"), strict=True
    ):
        for color, how in (("C0", "tiled"), ("C1", "dense"), ("C2", "open_clip")):
            for loss, style in (("info_nce", "o-"), ("sigmoid", "s:")):
                name = f"{loss} {how}"
                points = [(row["pairs"], row[name][key]) for row in rows if name in row]
                if points:
                    panel.plot(*zip(*points, strict=True), style, color=color, label=name, markersize=4)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xlabel("pairs in the batch")
        panel.set_title(title)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Measure every size and variant, save the rows and plot the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[2**power for power in range(10, 17)])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="of tiled, labels, dense and open_clip; saves no curves")
    parser.add_argument("--variant", help="measure one variant in this process and print it")
    args = parser.parse_args()
    if args.variant:
        print(json.dumps(measure(args.variant, args.pairs[0], args.width, args.repeats)))
        return
    rows = []
    for num_pairs in args.pairs:
        row: dict[str, Any] = {"pairs": num_pairs, "width": args.width, "threads": args.threads}
        row |= {name: measure_in_subprocess(name, num_pairs, args) for name in names(num_pairs, args.only)}
        for loss in ("info_nce", "sigmoid"):
            tiled, dense = row[f"{loss} tiled"], row.get(f"{loss} dense")
            row[f"{loss} labels / tiled"] = {
                key: round(row[f"{loss} labels"][key] / tiled[key], 3) for key in ("cpu_seconds", "extra_mib")
            }
            if dense:
                row[f"{loss} tiled / dense"] = {
                    "seconds": round(tiled["seconds"] / dense["seconds"], 3),
                    "extra_mib": round(tiled["extra_mib"] / dense["extra_mib"], 4),
                }
        save_row("losses", row)
        rows.append(row)
    if args.only:
        return
    RESULTS.mkdir(exist_ok=True)
    plot(rows, RESULTS / "losses.svg")


if __name__ == "__main__":
    main()
