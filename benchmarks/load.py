"""Time and peak memory of loading ViT-B/32, compared with reading its file.

    python benchmarks/load.py

Writes a ViT-B/32 with random weights, then loads it in fresh processes: the first time (SHA-256 and golden vectors are
verified), later (both are cached), and with verify=False. The references of the same run are reading every byte of
model.safetensors, and one forward pass of an image and a short text.
The row goes to results/load.jsonl.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

import zebra
from receipt import save_row
from zebra.config.presets import get_preset
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.golden import verify_golden
from zebra.text.bpe import BPETokenizer

REPEATS = 5
CHILD = """
import sys, time
from pathlib import Path
import torch, zebra
zebra.load

def peak():  # not ru_maxrss, which a child inherits from its parent
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = peak()
start = time.perf_counter()
clip = zebra.load(sys.argv[1], verify=sys.argv[2] == "verify", device="cpu")
seconds = time.perf_counter() - start
print(seconds, (peak() - before) * 1024)
"""


def main() -> None:
    """Measure and store one row."""
    with tempfile.TemporaryDirectory() as temp_dir:
        os.environ["ZEBRA_CACHE"] = str(Path(temp_dir) / "cache")
        folder = Path(temp_dir) / "model"
        clip = write_model(folder)
        for file in folder.iterdir():  # results for recently changed files are not cached
            os.utime(file, (time.time() - 3600,) * 2)
        weights = folder / "model.safetensors"
        first = load_in_process(folder, "verify")
        later = [load_in_process(folder, "verify") for _ in range(REPEATS)]
        unverified = [load_in_process(folder, "trust") for _ in range(REPEATS)]
        reading = median(time_call(weights.read_bytes) for _ in range(REPEATS))
        image = Image.fromarray(np.zeros((60, 80, 3), dtype=np.uint8))
        verify_golden(clip, folder / "golden.safetensors")
        golden = median(time_call(lambda: verify_golden(clip, folder / "golden.safetensors")) for _ in range(REPEATS))
        forward = median(
            time_call(lambda: (clip.encode_images([image]), clip.encode_texts(["a photo of a horse"])))
            for _ in range(REPEATS)
        )
        size = weights.stat().st_size
        row = {
            "weights_megabytes": round(size / 1e6),
            "read_file_seconds": round(reading, 3),
            "first_load_seconds": round(first[0], 3),
            "later_load_seconds": round(median(t for t, _ in later), 3),
            "unverified_load_seconds": round(median(t for t, _ in unverified), 3),
            "later_load_over_read": round(median(t for t, _ in later) / reading, 2),
            "peak_over_weights": round(max(peak for _, peak in [first, *later]) / size, 2),
            "golden_over_forward": round(golden / forward, 2),
        }
    save_row("load", row)


def write_model(folder: Path) -> Bundle:
    """Write a ViT-B/32 with random weights and a small vocabulary."""
    torch.manual_seed(0)
    tokenizer = BPETokenizer.train(["a photo of a horse"] * 3, 560, 77)
    clip = Bundle(CLIP(get_preset("ViT-B/32")), tokenizer, Preprocess(image_size=224))
    clip.save(folder)
    return zebra.load(folder, device="cpu", verify=False)  # the first verified load is measured


def load_in_process(folder: Path, mode: str) -> tuple[float, float]:
    """Load in a fresh process; return the seconds and the growth of its peak memory in bytes."""
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), mode], check=True, capture_output=True, text=True
    )
    seconds, peak = result.stdout.split()
    return float(seconds), float(peak)


def time_call(fn: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
