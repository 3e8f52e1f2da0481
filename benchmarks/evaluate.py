"""Time and memory of scores on given vectors.

    python benchmarks/evaluate.py [--width 512] [--threads T] [--repeats 3]

The vectors are random, of unit length, on the CPU, with one process per task: zero-shot with 50,000 images and 1,000
classes (ImageNet's validation set), retrieval with 5,000 images and 25,000 captions (COCO's test set) and with twice
and four times the captions, and mean average precision with 5,000 images and 20 classes (PASCAL VOC 2007). Seconds
include scores and their intervals. Memory is the peak of the process minus its memory before the call. Rows go to
results/evaluate.jsonl; on a busy machine, processor seconds are far below threads × seconds.
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

SIZES = {
    "zero-shot": [(50_000, 1_000)],
    "retrieval": [(5_000, 25_000), (5_000, 50_000), (5_000, 100_000)],
    "map": [(5_000, 20)],
}
"""Numbers of images and of classes or captions, by task."""


def random_unit_vectors(rng: np.random.Generator, count: int, width: int) -> NDArray[np.float32]:
    """Return random random_unit_vectors vectors, generated in blocks to limit peak memory."""
    vectors = np.empty((count, width), dtype=np.float32)
    for start in range(0, count, 4096):
        block = rng.standard_normal((min(4096, count - start), width), dtype=np.float32)
        vectors[start : start + 4096] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def task(name: str, images: int, texts: int, width: int) -> Callable[[], object]:
    """Return a call that computes the scores of a random dataset of this size."""
    rng = np.random.default_rng(0)
    text_ME = random_unit_vectors(rng, texts, width)
    image_NE = random_unit_vectors(rng, images, width)
    labels = rng.integers(0, texts, images) if name == "zero-shot" else None
    image_embeddings = Embeddings(image_NE, tuple(map(str, range(images))), labels)
    match name:
        case "zero-shot":
            return lambda: classify_zero_shot(image_embeddings, text_ME).scores()
        case "retrieval":
            captions = Embeddings(text_ME, tuple(map(str, range(texts))))
            image_of_caption = np.arange(texts) % images
            return lambda: compute_retrieval_ranks(image_embeddings, captions, image_of_caption).scores()
        case "map":
            truth_NC = rng.random((images, texts)) < 0.07
            return lambda: score_zero_shot_multilabel(image_embeddings, truth_NC, text_ME).scores()
    raise ValueError(name)


def status_bytes(field: str) -> int:
    """Return VmRSS or VmHWM of this process; `ru_maxrss` would include the peak of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def measure(name: str, images: int, texts: int, width: int, repeats: int) -> dict[str, float]:
    """Measure the scores of one dataset in this process."""
    task(name, 10, 50, width)()  # libraries are loaded and start their threads
    call = task(name, images, texts, width)
    before, times = status_bytes("VmRSS"), []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - start, time.process_time() - cpu_start))
    peak = status_bytes("VmHWM")
    seconds, processor_seconds = min(times)
    return {
        "seconds": round(seconds, 3),
        "processor_seconds": round(processor_seconds, 3),
        "extra_mib": round((peak - before) / 2**20, 1),
        "process_mib": round(peak / 2**20, 1),
    }


def measure_in_subprocess(name: str, images: int, texts: int, args: argparse.Namespace) -> dict[str, float]:
    """Measure the scores of one dataset in its own process."""
    sizes = ["--images", str(images), "--texts", str(texts), "--width", str(args.width)]
    process = subprocess.run(
        [sys.executable, __file__, "--task", name, *sizes, "--repeats", str(args.repeats)],
        env=os.environ | {"OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout)


def main() -> None:
    """Measure every dataset and save the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--task", help="measure one dataset in this process and print it")
    parser.add_argument("--images", type=int)
    parser.add_argument("--texts", type=int)
    args = parser.parse_args()
    if args.task:
        print(json.dumps(measure(args.task, args.images, args.texts, args.width, args.repeats)))
        return
    from receipt import save_row  # imports torch, which the measured processes do not need

    for name, sizes in SIZES.items():
        for images, texts in sizes:
            row = {"task": name, "images": images, "texts": texts, "width": args.width, "threads": args.threads}
            save_row("evaluate", row | measure_in_subprocess(name, images, texts, args))


if __name__ == "__main__":
    main()
