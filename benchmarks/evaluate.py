"""What do scores cost once the vectors are there: seconds, and memory beside the vectors?

    python benchmarks/evaluate.py [--width 512] [--threads T] [--repeats 3]

Random unit vectors, one process per task, on the CPU: zero-shot with 50,000 images and 1,000 classes (ImageNet's
validation set), retrieval with 5,000 images and 25,000 captions (COCO's test set) and with twice and four times the
captions, mean average precision with 5,000 images and 20 classes (PASCAL VOC 2007). Seconds are of the whole call, with
the scores and their intervals. Memory is the high-water mark of the process, less what it held before the call. Rows
go to results/evaluate.jsonl; a busy machine shows as processor seconds far below threads × seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.protocols.retrieval import compute_retrieval_ranks
from zebra.protocols.zero_shot import classify_zero_shot, score_zero_shot_multilabel
from zebra.values import Embeddings

SETS = {
    "zero-shot": [(50_000, 1_000)],
    "retrieval": [(5_000, 25_000), (5_000, 50_000), (5_000, 100_000)],
    "map": [(5_000, 20)],
}
"""Task → numbers of images and of classes or captions."""


def unit(rng: np.random.Generator, count: int, width: int) -> NDArray[np.float32]:
    """Draw vectors, a few at a time so that the drawing is not what fills the memory."""
    vectors = np.empty((count, width), dtype=np.float32)
    for start in range(0, count, 4096):
        block = rng.standard_normal((min(4096, count - start), width), dtype=np.float32)
        vectors[start : start + 4096] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def task(name: str, images: int, texts: int, width: int) -> Callable[[], object]:
    """Make up a set of this size and return the call that scores it."""
    rng = np.random.default_rng(0)
    text_ME = unit(rng, texts, width)
    image_NE = unit(rng, images, width)
    labels = rng.integers(0, texts, images) if name == "zero-shot" else None
    pictures = Embeddings(image_NE, tuple(map(str, range(images))), labels)
    match name:
        case "zero-shot":
            return lambda: classify_zero_shot(pictures, text_ME).scores()
        case "retrieval":
            captions = Embeddings(text_ME, tuple(map(str, range(texts))))
            owners = np.arange(texts) % images
            return lambda: compute_retrieval_ranks(pictures, captions, owners).scores()
        case "map":
            truth_NC = rng.random((images, texts)) < 0.07
            return lambda: score_zero_shot_multilabel(pictures, truth_NC, text_ME).scores()
    raise ValueError(name)


def status_bytes(field: str) -> int:
    """Read VmRSS or VmHWM of this process; `ru_maxrss` would include the peak of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def measure(name: str, images: int, texts: int, width: int, repeats: int) -> dict[str, float]:
    """Score one set in this process."""
    task(name, 10, 50, width)()  # libraries load and start their threads
    call = task(name, images, texts, width)
    before, times = status_bytes("VmRSS"), []
    for _ in range(repeats):
        began, worked = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - began, time.process_time() - worked))
    peak = status_bytes("VmHWM")
    seconds, processor_seconds = min(times)
    return {
        "seconds": round(seconds, 3),
        "processor_seconds": round(processor_seconds, 3),
        "extra_mib": round((peak - before) / 2**20, 1),
        "process_mib": round(peak / 2**20, 1),
    }


def measure_apart(name: str, images: int, texts: int, told: argparse.Namespace) -> dict[str, float]:
    """Score one set in a process of its own."""
    sizes = ["--images", str(images), "--texts", str(texts), "--width", str(told.width)]
    done = subprocess.run(
        [sys.executable, __file__, "--task", name, *sizes, "--repeats", str(told.repeats)],
        env=os.environ | {"OMP_NUM_THREADS": str(told.threads), "OPENBLAS_NUM_THREADS": str(told.threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    """Measure every set and keep the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--task", help="measure one set, in this process, and print it")
    parser.add_argument("--images", type=int)
    parser.add_argument("--texts", type=int)
    told = parser.parse_args()
    if told.task:
        print(json.dumps(measure(told.task, told.images, told.texts, told.width, told.repeats)))
        return
    from receipt import keep  # brings torch, which the measured processes do without

    for name, sizes in SETS.items():
        for images, texts in sizes:
            row = {
                "task": name,
                "images": images,
                "texts": texts,
                "width": told.width,
                "threads": told.threads,
            }
            keep("evaluate", row | measure_apart(name, images, texts, told))


if __name__ == "__main__":
    main()
