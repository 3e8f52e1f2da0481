"""What does a training step cost in time and memory when its batch passes the towers in chunks?

    python benchmarks/caching.py [--model ViT-B/32] [--pairs 256] [--chunks 128 64 32 16] [--steps 5] [--precision fp32]

The yardstick is the same step on the whole batch; beside it stands a step on a batch of one chunk, whose activations
are what a step in chunks should hold. Steps of all kinds take turns in one process, and the median of each counts.
Memory is the peak of a step above what was there before it (weights, optimizer, batch), so the gradients of the
weights count in each figure; each is taken in a process of its own, and twice: as it is, and with an allocator that
returns each block when it is freed ("held"). On Linux they differ, since malloc keeps freed blocks of up to 32 MiB.
Texts are 8 to 20 tokens long. Runs on the GPU where there is one.
Rows go to results/caching.jsonl, one for each size of chunk.
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

from receipt import keep
from zebra.config.presets import get_preset
from zebra.config.train import OptimizerConfig
from zebra.models import CLIP
from zebra.train.optimizer import build_optimizer
from zebra.train.step import train_step

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Bench:
    """A model with its optimizer, and steps of it on random pairs."""

    def __init__(self, told: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.config = get_preset(told.model)
        self.precision = told.precision
        self.model = CLIP(self.config).to(DEVICE).train()
        self.optimizer = build_optimizer(self.model, OptimizerConfig())
        self.step(self.batch(2), None)  # optimizer state and gradients are there before anything is measured

    def batch(self, num_pairs: int) -> tuple[Tensor, Tensor]:
        """Draw pixels, and texts that end after 8 to 20 tokens."""
        size, text = self.config.image_size, self.config.text
        tokens = torch.randint(1, text.vocab_size - 1, (num_pairs, text.context_length))
        tokens[torch.arange(num_pairs), torch.randint(7, 20, (num_pairs,))] = text.vocab_size - 1
        return torch.randn(num_pairs, 3, size, size, device=DEVICE), tokens.to(DEVICE)

    def step(self, batch: tuple[Tensor, Tensor], chunk_size: int | None) -> float:
        """Take a step; return its seconds. Its figures are numbers, so the device has finished."""
        began = time.perf_counter()
        train_step(
            self.model,
            self.optimizer,
            *batch,
            lr=1e-5,
            grad_clip_norm=1.0,
            precision=self.precision,
            chunk_size=chunk_size,
        )
        return time.perf_counter() - began


def peak_mib(told: argparse.Namespace) -> float:
    """Measure the memory of one step in this process, which has taken no larger one."""
    bench = Bench(told)
    batch = bench.batch(told.pairs)
    bench.optimizer.zero_grad(set_to_none=True)  # as the step itself does first
    if DEVICE.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        bench.step(batch, told.chunks[0])
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = _memory_mib("VmRSS")
    bench.step(batch, told.chunks[0])
    return _memory_mib("VmHWM") - before


def _memory_mib(field: str) -> float:
    """Read what this process holds, or held at its peak; `ru_maxrss` would include the peak of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def memory(told: argparse.Namespace, num_pairs: int, chunk_size: int) -> dict[str, int]:
    """Measure the memory of one step in processes of their own."""
    options = ["--model", told.model, "--precision", told.precision]
    sizes = ["--pairs", str(num_pairs), "--chunks", str(chunk_size)]
    command = [sys.executable, __file__, "--memory", *options, *sizes]

    def peak(**environment: str) -> int:
        done = subprocess.run(
            command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return round(json.loads(done.stdout))

    return {"peak_mib": peak(), "held_mib": peak(MALLOC_MMAP_THRESHOLD_="65536")}


def seconds(told: argparse.Namespace) -> tuple[dict[int, float], dict[int, float]]:
    """Return, by size, the seconds of the batch in chunks (the last size is the whole batch) and of one chunk alone."""
    bench = Bench(told)
    whole = bench.batch(told.pairs)
    chunked: dict[int, list[float]] = {size: [] for size in [*told.chunks, told.pairs]}
    alone: dict[int, list[float]] = {size: [] for size in told.chunks}
    for _ in range(1 + told.steps):
        for size, taken in chunked.items():
            taken.append(bench.step(whole, size))
        for size, taken in alone.items():
            taken.append(bench.step((whole[0][:size], whole[1][:size]), None))
    # The first round warms up.
    return tuple({size: median(taken[1:]) for size, taken in kind.items()} for kind in (chunked, alone))


def main() -> None:
    """Measure every size of chunk and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--chunks", type=int, nargs="+", default=[128, 64, 32, 16])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--memory", action="store_true", help="print the peak of one step in this process")
    told = parser.parse_args()
    if told.memory:
        print(json.dumps(peak_mib(told)))
        return
    chunked, alone = seconds(told)
    whole_memory = memory(told, told.pairs, told.pairs)
    for size in told.chunks:
        row: dict[str, Any] = {
            "model": told.model,
            "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "precision": told.precision,
            "pairs": told.pairs,
            "chunk_size": size,
            "seconds / whole": round(chunked[size] / chunked[told.pairs], 3),
            "in chunks": {"seconds": round(chunked[size], 3)} | memory(told, told.pairs, size),
            "whole": {"seconds": round(chunked[told.pairs], 3)} | whole_memory,
            "one chunk": {"seconds": round(alone[size], 3)} | memory(told, size, size),
        }
        keep("caching", row)


if __name__ == "__main__":
    main()
