"""Speed of training, embedding, evaluation and the server's worker beside another busy process.

    python benchmarks/shared_cores.py [--seconds 3] [--repeats 2] [--work train embed evaluate serve]

Needs all cores of an otherwise idle machine; two cores take five minutes. Each number is measured in a new process:

    alone            on all cores
    half alone       on half of the cores
    beside session   on all cores beside half as many busy processes, each in a session of its own. Linux divides cores
                     among sessions first (autogroups), so the fair share is what the work does alone on half of them.
    beside process   likewise in the same session. Linux divides cores among threads, of which work and busy process
                     have 2 and 1 on two cores; the fair share is at most three quarters of the speed alone.

`of_fair_share` is the median of the ratios to the fair share within a round; the goal is 0.8. One row per kind of work
goes to results/shared_cores.jsonl.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any

WORK = ("train", "embed", "evaluate", "serve")
"""A step of tiny-resnet with 48 pairs; `zebra embed` and `zebra evaluate` of a folder; a batch of 32 texts and one of
32 images in the server's worker."""
MODES = ("alone", "half alone", "beside session", "beside process")
NUM_IMAGES = 256
BUSY = [sys.executable, "-c", "while True: pass"]
WORKER_VARIABLES = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Variables that `zebra serve` sets for its worker."""


def write_inputs(folder: Path) -> None:
    """Write a model with random weights and images in folders by class."""
    import numpy as np
    import torch
    from PIL import Image

    from zebra.config.presets import get_preset
    from zebra.images.preprocess import Preprocess
    from zebra.models import CLIP
    from zebra.pretrained.bundle import Bundle
    from zebra.text.bpe import BPETokenizer

    torch.manual_seed(0)
    tokenizer = BPETokenizer.train(["a photo of a horse"] * 3, 560, 32)
    Bundle(CLIP(get_preset("tiny-resnet")).eval(), tokenizer, Preprocess(image_size=64)).save(folder / "model")
    rng = np.random.default_rng(0)
    for index in range(NUM_IMAGES):
        path = folder / "images" / ("horse", "zebra")[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        noise.resize((320, 240), Image.Resampling.BICUBIC).save(path)


def build_unit(work: str, folder: Path, temp_dir: Path) -> Callable[[], object]:
    """Return a function that does one unit of work."""
    import torch

    model, images, runs = str(folder / "model"), str(folder / "images"), count()
    if work == "train":
        from zebra.config.presets import get_preset
        from zebra.config.train import OptimizerConfig
        from zebra.models import CLIP
        from zebra.train.optimizer import build_optimizer
        from zebra.train.step import train_step

        torch.manual_seed(0)
        trained = CLIP(get_preset("tiny-resnet")).train()
        optimizer = build_optimizer(trained, OptimizerConfig())
        pixels = torch.randn(48, 3, 64, 64)
        tokens_BL = torch.zeros(48, 32, dtype=torch.int64)
        tokens_BL[:, :12] = torch.randint(1, 2000, (48, 12))
        tokens_BL[:, 12] = 2047
        return lambda: train_step(trained, optimizer, pixels, tokens_BL, lr=1e-3, grad_clip_norm=1.0, precision="fp32")
    if work == "embed":
        from zebra.config.embed import EmbedConfig
        from zebra.workflows import embed

        return lambda: embed.run(EmbedConfig(model=model, data=images, out=str(temp_dir / f"store-{next(runs)}")))
    if work == "evaluate":
        from zebra.config.evaluate import EvaluateConfig
        from zebra.workflows import evaluate

        def evaluate_once() -> None:
            name = f"evaluation-{next(runs)}"
            os.environ["ZEBRA_CACHE"] = str(temp_dir / f"cache-{name}")  # otherwise the vectors are cached
            evaluate.run(EvaluateConfig(model=model, datasets=(images,), out=str(temp_dir / name)))

        return evaluate_once
    import numpy as np

    import zebra
    from zebra.serve.model_runner import ModelRunner

    clip = zebra.load(model)
    runner = ModelRunner(clip)
    runner.warm_up(32)
    texts = [f"a photo of horse number {index}" for index in range(32)]
    arrays = [np.full((3, clip.image_size, clip.image_size), index, np.uint8) for index in range(32)]

    def run_batches() -> None:
        from zebra.images.tensors import stack_pixels

        clip.encode_pixels(stack_pixels(arrays))
        runner.encode_texts(texts)

    return run_batches


def measure(work: str, mode: str, folder: Path, seconds: float) -> dict[str, float]:
    """Repeat the work for some seconds in this process; return its speed and CPU time."""
    cores = sorted(os.sched_getaffinity(0))
    half = max(1, len(cores) // 2)
    if mode == "half alone":
        os.sched_setaffinity(0, cores[:half])
    from zebra.pretrained.shared_cores import share_cores

    with tempfile.TemporaryDirectory() as temp_dir:
        os.environ["ZEBRA_CACHE"] = temp_dir
        run_unit = build_unit(work, folder, Path(temp_dir))
        run_unit()
        run_unit()
        with (
            busy_processes(half if mode.startswith("beside") else 0, own_session=mode == "beside session"),
            share_cores() if work == "train" else nullcontext(),
        ):
            num_units, start, cpu_start = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - start < seconds:
                run_unit()
                num_units += 1
            return {
                "per_second": num_units / (time.perf_counter() - start),
                "cpu_seconds": (time.process_time() - cpu_start) / num_units,
            }


@contextmanager
def busy_processes(number: int, *, own_session: bool) -> Iterator[None]:
    """Run processes that are always busy until the block ends."""
    processes = [subprocess.Popen(BUSY, start_new_session=own_session) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure_in_subprocess(work: str, mode: str, folder: Path, seconds: float) -> dict[str, float]:
    """Measure in a new process and session, with the variables that the work sets for itself."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    environment |= WORKER_VARIABLES if work == "serve" else {}
    command = [sys.executable, __file__, "--measure", work, mode, str(folder), "--seconds", str(seconds)]
    process = subprocess.run(
        command, env=environment, start_new_session=True, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure every kind of work in turns and save a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--work", nargs="+", default=[*WORK], choices=[*WORK])
    parser.add_argument("--measure", nargs=3, help="measure WORK in MODE with the inputs in FOLDER, in this process")
    args = parser.parse_args()
    if args.measure:
        work, mode, folder = args.measure
        print(json.dumps(measure(work, mode, Path(folder), args.seconds)))
        return
    from receipt import save_row

    with tempfile.TemporaryDirectory() as temp_dir:
        write_inputs(Path(temp_dir))
        for work in args.work:
            rounds = [
                {mode: measure_in_subprocess(work, mode, Path(temp_dir), args.seconds) for mode in MODES}
                for _ in range(args.repeats)
            ]
            row: dict[str, Any] = {"work": work, "repeats": args.repeats, "load_average": os.getloadavg()[0]}
            for mode in MODES:
                row[mode] = {
                    key: round(statistics.median(measured[mode][key] for measured in rounds), 4)
                    for key in ("per_second", "cpu_seconds")
                }
            speeds = [{mode: measured[mode]["per_second"] for mode in MODES} for measured in rounds]
            for mode, fair_shares in (
                ("beside session", [speed["half alone"] for speed in speeds]),
                ("beside process", [0.75 * speed["alone"] for speed in speeds]),
            ):
                ratios = [speed[mode] / fair for speed, fair in zip(speeds, fair_shares, strict=True)]
                row[mode]["of_fair_share"] = round(statistics.median(ratios), 2)
            save_row("shared_cores", row)


if __name__ == "__main__":
    main()
