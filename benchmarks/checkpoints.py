"""What does a checkpoint cost the training beside it?

    python benchmarks/checkpoints.py [--model tiny-resnet | ViT-B/32 | …] [--batch 64] [--keep]

Saves a model with averaged weights and optimizer six times. Of the last five (the first one makes the memory that the
others fill again), the medians: how long `save` holds the training, for the copy; how long the background thread then
takes until the checkpoint is on disk, read back and old ones are gone, and how much of that it computes; the longest
pause that a thread of 1 ms ticks sees meanwhile (0.0x s is the scheduler, not the interpreter's lock); the growth of
memory since the second save. The yardstick is a training step on random pictures: `share_of_100_steps` is copy and
computing together, as if nothing of it ran beside the training, against a hundred steps.
With --keep the row goes to results/checkpoints.jsonl.
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

from receipt import keep
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
    """Measure and print one row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny-resnet")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--keep", action="store_true", help="write the row to results/checkpoints.jsonl")
    told = parser.parse_args()
    row = measure(told.model, told.batch)
    if told.keep:
        keep("checkpoints", row)
    else:
        print(json.dumps(row, indent=1))


def measure(name: str, batch: int) -> dict[str, Any]:
    """Train a few steps, save a few times."""
    config = get_preset(name)
    torch.manual_seed(0)
    model = CLIP(config)
    optimizer = build_optimizer(model, OptimizerConfig())
    images = torch.randn(batch, 3, config.image_size, config.image_size)
    tokens = torch.randint(1, config.text.vocab_size - 1, (batch, min(16, config.text.context_length)))
    tokens[:, -1] = config.text.vocab_size - 1

    def step() -> None:
        train_step(model, optimizer, images, tokens, lr=1e-4, grad_clip_norm=1.0, precision="fp32")

    seconds_of_step = median([timed(step) for _ in range(4)][1:])
    average = ModelEMA(model, 0.99)
    tensors, state = get_rng_state()
    parts = {
        "model": model.state_dict(),
        "optimizer": optimizer_tensors(model, optimizer),
        "ema": average.weights,
    }
    copies, walls, computed, memory = [], [], [], []
    with tempfile.TemporaryDirectory() as place, Ticker() as ticker:
        with CheckpointWriter(Path(place) / "checkpoints", num_to_keep=2) as writer:
            for number in range(SAVES):
                snapshot = TrainSnapshot(number, {**parts, "rng": tensors}, state)
                copies.append(timed(lambda snapshot=snapshot: writer.save(snapshot)))
                cpu = time.process_time()
                walls.append(timed(writer.wait))
                computed.append(time.process_time() - cpu)
                memory.append(resident_bytes())
        size = sum(path.stat().st_size for path in Path(place).rglob(f"*{SAVES - 1}/*"))
    copy, wall, cpu = (median(values[1:]) for values in (copies, walls, computed))
    return {
        "model": name,
        "checkpoint_megabytes": round(size / 1e6, 1),
        "copy_seconds": round(copy, 4),
        "background_seconds": round(wall, 3),
        "background_computing_seconds": round(cpu, 3),
        "longest_pause_seconds": round(ticker.longest, 3),
        "memory_growth_megabytes": round((memory[-1] - memory[1]) / 1e6, 1),
        "step_seconds": round(seconds_of_step, 3),
        "share_of_100_steps": round((copy + cpu) / (100 * seconds_of_step), 4),
    }


class Ticker:
    """A thread that sleeps 1 ms at a time and remembers its longest sleep."""

    def __enter__(self) -> "Ticker":
        """Start it."""
        self.longest = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tick)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop it."""
        self._stopped.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._stopped.is_set():
            self.longest = max(self.longest, timed(lambda: time.sleep(0.001)))


def resident_bytes() -> int:
    """Return how much memory this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def timed(work: Any) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
