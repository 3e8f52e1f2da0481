"""Time of an evaluation on 38 datasets, relative to one pass of the model over all of their images.

    python benchmarks/many_datasets.py MODEL [--images 1000] [--keep DIR]

Draws 30 labeled datasets of 10 to 500 classes and 8 captioned ones, each with JPEGs of 128 pixels, and runs two
processes: `clip.encode_images` over all images, read from the same files, and `zebra evaluate` with an empty cache and
its default tasks. A second evaluation has all vectors in its cache: what it takes is not the image tower. The row goes
to results/many_datasets.jsonl.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

RESULTS = Path(__file__).parent / "results" / "many_datasets.jsonl"
NUM_CLASSES = (10, 20, 37, 47, 100, 102, 200, 397, 500, 2)
NUM_LABELED, NUM_CAPTIONED = 30, 8


def draw(seed: int) -> bytes:
    """Return a JPEG of smooth random colors."""
    colors = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colors).resize((128, 128), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_datasets(root: Path, num_images: int) -> None:
    """Write the datasets that are missing."""
    from zebra.data.benchmarks.writer import write_classification, write_retrieval

    for number in range(NUM_LABELED):
        if not (folder := root / f"labeled-{number:02}").exists():
            num_classes = NUM_CLASSES[number % len(NUM_CLASSES)]
            names = [f"thing {name} of {number}" for name in range(num_classes)]
            samples = ((draw(number * num_images + image), "jpg", image % num_classes) for image in range(num_images))
            write_classification(folder, samples, names, ["a photo of {c}.", "a drawing of {c}."])
    for number in range(NUM_CAPTIONED):
        if not (folder := root / f"captioned-{number:02}").exists():
            start = (NUM_LABELED + number) * num_images
            captions = (
                (draw(start + image), "jpg", [f"a photo of thing {image}", f"thing {image} of {number}"])
                for image in range(num_images)
            )
            write_retrieval(folder, captions)


def run_pass(model: str, root: Path) -> None:
    """Encode all images of all datasets in one call."""
    import zebra
    from zebra.evaluators.datasets import load_dataset

    clip = zebra.load(model)
    sources = [load_dataset(folder).source for folder in sorted(root.iterdir())]

    def images() -> Iterator[bytes]:
        for source in sources:
            for index in range(len(source)):
                yield source.read(index).image

    clip.encode_images(images())


def run_evaluation(model: str, root: Path, out: Path) -> None:
    """Evaluate on all datasets."""
    from zebra.config.evaluate import EvaluateConfig
    from zebra.workflows import evaluate

    datasets = tuple(map(str, sorted(root.iterdir())))
    evaluate.run(EvaluateConfig(model=model, datasets=datasets, out=str(out)))


def measure(*arguments: str, cache: Path) -> dict[str, float]:
    """Run this script in a process with a cache; return its seconds, CPU-seconds and peak memory."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-W", "ignore", __file__, *arguments]
    subprocess.run(command, check=True, env={**os.environ, "ZEBRA_CACHE": str(cache)}, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_megabytes": round(after.ru_maxrss / 1024),  # of the largest child so far
    }


def main() -> None:
    """Write the datasets, measure and append the row; or run one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--images", type=int, default=1000, help="images of each dataset")
    parser.add_argument("--keep", type=Path, help="directory of the datasets; default: a temporary one")
    parser.add_argument("--process", choices=("pass", "evaluation"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.process == "pass":
        run_pass(args.model, args.keep)
    elif args.process == "evaluation":
        run_evaluation(args.model, args.keep, args.out)
    else:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            root = args.keep or folder / "datasets"
            root.mkdir(parents=True, exist_ok=True)
            write_datasets(root, args.images)
            shared = (args.model, "--keep", str(root), "--process")
            row: dict[str, object] = {"datasets": NUM_LABELED + NUM_CAPTIONED, "images_each": args.images}
            row["threads"] = os.environ.get("OMP_NUM_THREADS", "one per core")
            row["pass"] = one_pass = measure(*shared, "pass", cache=folder / "cache")
            first = measure(*shared, "evaluation", "--out", str(folder / "first"), cache=folder / "cache")
            row["evaluation"] = first
            row["cached"] = measure(*shared, "evaluation", "--out", str(folder / "again"), cache=folder / "cache")
            row["relative_seconds"] = round(first["seconds"] / one_pass["seconds"], 2)
            print(json.dumps(row))
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
