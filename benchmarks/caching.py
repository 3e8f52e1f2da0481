"""Time and memory of a training step with gradient caching, by chunk size.

    python benchmarks/caching.py [--model ViT-B/32] [--pairs 256] [--chunks 128 64 32 16] [--steps 5] [--precision fp32]

The baseline is the same step on the whole batch. A step on a batch of one chunk is measured too: its activations are
what a chunked step should hold. Steps of all kinds take turns in one process; the result is the median of each. Memory
is the peak during a step minus the memory before it (weights, optimizer, batch), so it includes the gradients of the
weights. Each number is measured in its own process, once with the default allocator and once with one that returns
each block when it is freed ("held"): on Linux, malloc keeps freed blocks of up to 32 MiB. Texts have 8 to 20 tokens.
Runs on a GPU if there is one. Rows go to results/caching.jsonl, one for each chunk size.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from receipt import save_row
from zebra.config.presets import get_preset
from zebra.config.train import OptimizerConfig
from zebra.models import CLIP
from zebra.train.optimizer import build_optimizer
from zebra.train.step import train_step

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class TrainingBenchmark:
    """A model with its optimizer, for training steps on random pairs."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.config = get_preset(args.model)
        self.precision = args.precision
        self.model = CLIP(self.config).to(DEVICE).train()
        self.optimizer = build_optimizer(self.model, OptimizerConfig())
        self.step(self.batch(2), None)  # allocates optimizer state and gradients before the measurements

    def batch(self, num_pairs: int) -> tuple[Tensor, Tensor]:
        """Return random pixels, and texts of 8 to 20 tokens."""
        size, text = self.config.image_size, self.config.text
        tokens = torch.randint(1, text.vocab_size - 1, (num_pairs, text.context_length))
        tokens[torch.arange(num_pairs), torch.randint(7, 20, (num_pairs,))] = text.vocab_size - 1
        return torch.randn(num_pairs, 3, size, size, device=DEVICE), tokens.to(DEVICE)

    def step(self, batch: tuple[Tensor, Tensor], chunk_size: int | None) -> float:
        """Take a step and return its seconds; the step waits for the device to compute its metrics."""
        start = time.perf_counter()
        train_step(
            self.model,
            self.optimizer,
            *batch,
            lr=1e-5,
            grad_clip_norm=1.0,
            precision=self.precision,
            chunk_size=chunk_size,
        )
        return time.perf_counter() - start


def peak_mib(args: argparse.Namespace) -> float:
    """Measure the memory of one step in this process, which must not have values a larger one."""
    benchmark = TrainingBenchmark(args)
    batch = benchmark.batch(args.pairs)
    benchmark.optimizer.zero_grad(set_to_none=True)  # as the step does first
    if DEVICE.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        benchmark.step(batch, args.chunks[0])
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = _memory_mib("VmRSS")
    benchmark.step(batch, args.chunks[0])
    return _memory_mib("VmHWM") - before


def _memory_mib(field: str) -> float:
    """Return the memory of this process, or its peak; `ru_maxrss` would include the peak of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def memory(args: argparse.Namespace, num_pairs: int, chunk_size: int) -> dict[str, int]:
    """Measure the memory of one step in separate processes."""
    options = ["--model", args.model, "--precision", args.precision]
    sizes = ["--pairs", str(num_pairs), "--chunks", str(chunk_size)]
    command = [sys.executable, __file__, "--memory", *options, *sizes]

    def peak(**environment: str) -> int:
        process = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True)
        return round(json.loads(process.stdout))

    return {"peak_mib": peak(), "held_mib": peak(MALLOC_MMAP_THRESHOLD_="65536")}


def seconds(args: argparse.Namespace) -> tuple[dict[int, float], dict[int, float]]:
    """Return, by chunk size, the seconds of the batch in chunks (the last is the full batch) and of one chunk alone."""
    benchmark = TrainingBenchmark(args)
    full_batch = benchmark.batch(args.pairs)
    chunked: dict[int, list[float]] = {size: [] for size in [*args.chunks, args.pairs]}
    alone: dict[int, list[float]] = {size: [] for size in args.chunks}
    for _ in range(1 + args.steps):
        for size, values in chunked.items():
            values.append(benchmark.step(full_batch, size))
        for size, values in alone.items():
            values.append(benchmark.step((full_batch[0][:size], full_batch[1][:size]), None))
    # The first round is a warm-up.
    return tuple({size: median(values[1:]) for size, values in kind.items()} for kind in (chunked, alone))


def main() -> None:
    """Measure every chunk size and save the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--chunks", type=int, nargs="+", default=[128, 64, 32, 16])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--memory", action="store_true", help="print the peak of one step in this process")
    args = parser.parse_args()
    if args.memory:
        print(json.dumps(peak_mib(args)))
        return
    chunked, alone = seconds(args)
    full_memory = memory(args, args.pairs, args.pairs)
    for size in args.chunks:
        row: dict[str, Any] = {
            "model": args.model,
            "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "precision": args.precision,
            "pairs": args.pairs,
            "chunk_size": size,
            "seconds / whole": round(chunked[size] / chunked[args.pairs], 3),
            "in chunks": {"seconds": round(chunked[size], 3)} | memory(args, args.pairs, size),
            "whole": {"seconds": round(chunked[args.pairs], 3)} | full_memory,
            "one chunk": {"seconds": round(alone[size], 3)} | memory(args, size, size),
        }
        save_row("caching", row)


if __name__ == "__main__":
    main()
