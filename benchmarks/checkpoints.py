"""Cost of asynchronous checkpoints during training.

    python benchmarks/checkpoints.py [--model tiny-resnet | ViT-B/32 | …] [--batch 64] [--keep]

Saves a model with EMA weights and optimizer six times. The first save allocates the memory that the others reuse. The
results are medians of the last five: the time that `save` blocks training for the copy; the time that the background
thread then needs until the checkpoint is on disk, verified and old ones are deleted, and its CPU time; the longest
pause of a thread that wakes up every 1 ms (0.0x s is the scheduler, not the GIL); and the growth of memory since the
second save. The baseline is a training step on random images: `share_of_100_steps` is copy and CPU time together, as
if nothing ran in parallel, relative to 100 steps. With --keep the row goes to results/checkpoints.jsonl.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from receipt import save_row
from zebra.config.presets import get_preset
from zebra.config.train import OptimizerConfig
from zebra.models import CLIP
from zebra.train.checkpoint_writer import CheckpointWriter
from zebra.train.ema import ModelEMA
from zebra.train.optimizer import build_optimizer
from zebra.train.snapshot import TrainSnapshot, get_rng_state, optimizer_tensors
from zebra.train.step import train_step

SAVES = 6


def main() -> None:
    """Measure and print or save one row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-resnet")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--keep", action="store_true", help="append the row to results/checkpoints.jsonl")
    args = parser.parse_args()
    row = measure(args.model, args.batch)
    if args.keep:
        save_row("checkpoints", row)
    else:
        print(json.dumps(row, indent=1))


def measure(name: str, batch: int) -> dict[str, Any]:
    """Time training steps and checkpoints; return the row."""
    config = get_preset(name)
    torch.manual_seed(0)
    model = CLIP(config)
    optimizer = build_optimizer(model, OptimizerConfig())
    images = torch.randn(batch, 3, config.image_size, config.image_size)
    tokens = torch.randint(1, config.text.vocab_size - 1, (batch, min(16, config.text.context_length)))
    tokens[:, -1] = config.text.vocab_size - 1

    def step() -> None:
        train_step(model, optimizer, images, tokens, lr=1e-4, grad_clip_norm=1.0, precision="fp32")

    step_seconds = median([timed(step) for _ in range(4)][1:])
    ema = ModelEMA(model, 0.99)
    tensors, state = get_rng_state()
    parts = {"model": model.state_dict(), "optimizer": optimizer_tensors(model, optimizer), "ema": ema.weights}
    copy_seconds, wall_seconds, cpu_seconds, memory = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, PauseMonitor() as monitor:
        with CheckpointWriter(Path(folder) / "checkpoints", num_to_keep=2) as writer:
            for number in range(SAVES):
                snapshot = TrainSnapshot(number, {**parts, "rng": tensors}, state)
                copy_seconds.append(timed(lambda snapshot=snapshot: writer.save(snapshot)))
                cpu = time.process_time()
                wall_seconds.append(timed(writer.wait))
                cpu_seconds.append(time.process_time() - cpu)
                memory.append(resident_bytes())
        size = sum(path.stat().st_size for path in Path(folder).rglob(f"*{SAVES - 1}/*"))
    copy, wall, cpu = (median(values[1:]) for values in (copy_seconds, wall_seconds, cpu_seconds))
    return {
        "model": name,
        "checkpoint_megabytes": round(size / 1e6, 1),
        "copy_seconds": round(copy, 4),
        "background_seconds": round(wall, 3),
        "background_computing_seconds": round(cpu, 3),
        "longest_pause_seconds": round(monitor.longest, 3),
        "memory_growth_megabytes": round((memory[-1] - memory[1]) / 1e6, 1),
        "step_seconds": round(step_seconds, 3),
        "share_of_100_steps": round((copy + cpu) / (100 * step_seconds), 4),
    }


class PauseMonitor:
    """A thread that sleeps for 1 ms again and again and records its longest sleep."""

    def __enter__(self) -> "PauseMonitor":
        """Start the thread."""
        self.longest = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tick)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._stopped.is_set():
            self.longest = max(self.longest, timed(lambda: time.sleep(0.001)))


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def timed(call: Any) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
