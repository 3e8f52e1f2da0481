"""How long does loading ViT-B/32 take, against reading its file, and what memory does it peak at?

    python benchmarks/load.py

Writes a ViT-B/32 with random weights, then opens it in fresh processes: the first time (sha256 and golden vectors are
checked), later (both remembered), and with verify=False. The yardsticks of the same run: reading every byte of
model.safetensors, and one forward pass of a picture and a short text.
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
from receipt import keep
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

def peak():  # not ru_maxrss: a child inherits its parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = peak()
began = time.perf_counter()
clip = zebra.load(sys.argv[1], verify=sys.argv[2] == "verify", device="cpu")
seconds = time.perf_counter() - began
print(seconds, (peak() - before) * 1024)
"""


def main() -> None:
    """Measure and print one row."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["ZEBRA_CACHE"] = str(Path(place) / "cache")
        folder = Path(place) / "model"
        clip = make(folder)
        for file in folder.iterdir():  # as if downloaded an hour ago: young files are not remembered
            os.utime(file, (time.time() - 3600,) * 2)
        weights = folder / "model.safetensors"
        first = opened(folder, "verify")
        later = [opened(folder, "verify") for _ in range(REPEATS)]
        unverified = [opened(folder, "trust") for _ in range(REPEATS)]
        reading = median(timed(weights.read_bytes) for _ in range(REPEATS))
        picture = Image.fromarray(np.zeros((60, 80, 3), dtype=np.uint8))
        verify_golden(clip, folder / "golden.safetensors")
        golden = median(
            timed(lambda: verify_golden(clip, folder / "golden.safetensors")) for _ in range(REPEATS)
        )
        forward = median(
            timed(lambda: (clip.encode_images([picture]), clip.encode_texts(["a photo of a horse"])))
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
    keep("load", row)


def make(folder: Path) -> Bundle:
    """Write a ViT-B/32 with random weights and a small vocabulary."""
    torch.manual_seed(0)
    words = BPETokenizer.train(["a photo of a horse"] * 3, 560, 77)
    clip = Bundle(CLIP(get_preset("ViT-B/32")), words, Preprocess(image_size=224))
    clip.save(folder)
    return zebra.load(folder, device="cpu", verify=False)  # the first verified load is measured


def opened(folder: Path, how: str) -> tuple[float, float]:
    """Load in a fresh process; return seconds and the growth of its peak memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), how], check=True, capture_output=True, text=True
    )
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
