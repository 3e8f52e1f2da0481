"""Throughput and memory of the data loader, compared with webdataset.

    python benchmarks/loader.py [--images 1536] [--batches 60] [--batch-size 64] [--workers 2] [--rounds 7]

From shards of 640 × 480 JPEGs (quality 90, each with a caption) to batches of random crops of 224 pixels with their
captions. The images are synthetic: noise with the spectrum of photographs (amplitude 1/f), and flat shapes; the row
has the mean size of their files. The reference is webdataset in the workers of torch's DataLoader, with the transforms
of open_clip's training: decode("pilrgb"), torchvision's RandomResizedCrop with the range 0.9 to 1, ToTensor,
Normalize. It does not shuffle, which saves a buffer. There are two variants, since open_clip normalizes in the workers
and zebra in the training process:

    bytes        uint8 batches from both
    normalized   float32 batches from both; those of zebra are normalized in the main process

Each measurement has its own process: the first batches are skipped until the queue is empty, and the others are timed.
All variants take turns; the results are the median of the rounds and the median of the ratio within a round. Memory is
the peak of the main process and of its largest worker, with all images in few and in many shards. Files are in the
page cache. The row goes to results/loader.jsonl.
"""

import argparse
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from receipt import save_row
from zebra.config.data import DataConfig
from zebra.data.batches import iter_batches
from zebra.data.shard_writer import ShardWriter
from zebra.data.sources import open_source
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess

WIDTH, HEIGHT, SIZE = 640, 480, 224
FEW_SHARDS, MANY_SHARDS = 4, 64
WARMUP_BATCHES = 12
"""Batches before the measurement."""
KINDS = ("zebra bytes", "webdataset bytes", "zebra normalized", "webdataset normalized")


def draw_image(number: int) -> bytes:
    """Return an encoded synthetic image."""
    rng = np.random.default_rng(number)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    frequency[0, 0] = np.inf  # no mean
    noise = rng.standard_normal((3, HEIGHT, WIDTH))
    luma, *chroma = np.fft.irfft2(np.fft.rfft2(noise) / frequency, (HEIGHT, WIDTH))
    rgb = np.stack([luma + 0.3 * chroma[0], luma - 0.15 * sum(chroma), luma + 0.3 * chroma[1]], axis=-1)
    image = Image.fromarray((128 + 45 * rgb / rgb.std()).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = rng.integers(-60, WIDTH), rng.integers(-60, HEIGHT)
        width, height = rng.integers(30, 200, 2)
        draw.ellipse((x, y, x + width, y + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_shards(folder: Path, images: list[bytes], shards: int) -> None:
    """Write all images as shards of equal size."""
    with ShardWriter(folder, samples_per_shard=-(-len(images) // shards)) as writer:
        for number, data in enumerate(images):
            caption = f"picture number {number}, drawn by chance, as the title of a page on the web might be"
            writer.write(f"{number:09d}", {"jpg": data, "txt": caption.encode()})


def zebra(args: argparse.Namespace) -> Iterator[tuple[Tensor, tuple[str, ...]]]:
    """Yield batches of zebra."""
    stream = iter_batches(
        open_source(args.data, DataConfig()),
        image_size=SIZE,
        batch_size=args.batch_size,
        seed=0,
        start_sample=0,
        num_steps=WARMUP_BATCHES + args.batches,
        num_workers=args.workers,
        config=DataConfig(),
    )
    normalize = Preprocess(image_size=SIZE).normalize if "normalized" in args.child else lambda images: images
    for batch in stream:
        yield normalize(batch.images), batch.captions


def webdataset(args: argparse.Namespace) -> Iterator[tuple[Tensor, list[str]]]:
    """Yield batches of webdataset."""
    # torchvision expects two operators that a CPU build of torch does not have.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import webdataset as wds
    from torchvision import transforms

    if "normalized" in args.child:
        to_tensor = [transforms.ToTensor(), transforms.Normalize(OPENAI_MEAN, OPENAI_STD)]
    else:
        to_tensor = [transforms.PILToTensor()]
    bicubic = transforms.InterpolationMode.BICUBIC
    crop = transforms.RandomResizedCrop(SIZE, scale=(0.9, 1.0), interpolation=bicubic)
    pipeline = wds.DataPipeline(
        wds.SimpleShardList(sorted(map(str, Path(args.data).glob("*.tar")))),
        wds.split_by_worker,
        wds.tarfile_to_samples(),
        wds.select(lambda sample: "txt" in sample and "jpg" in sample),
        wds.decode("pilrgb"),
        wds.rename(image="jpg;png;jpeg;webp", text="txt"),
        wds.map_dict(image=transforms.Compose([crop, *to_tensor])),
        wds.to_tuple("image", "text"),
        wds.batched(args.batch_size, partial=False),
    ).with_epoch(WARMUP_BATCHES + args.batches)
    yield from wds.WebLoader(pipeline, batch_size=None, shuffle=False, num_workers=args.workers)


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Measure one variant in this process."""
    torch.set_num_threads(1)
    stream = (zebra if args.child.startswith("zebra") else webdataset)(args)
    num_pairs = 0
    for number, (images, captions) in enumerate(stream):
        assert images.shape == (args.batch_size, 3, SIZE, SIZE)
        assert len(captions) == args.batch_size
        if number == WARMUP_BATCHES - 1:
            start = time.perf_counter()
        elif number >= WARMUP_BATCHES:
            num_pairs += len(captions)
        if num_pairs >= args.batches * args.batch_size:
            break
    rate = num_pairs / (time.perf_counter() - start)
    workers = [peak_mib(child.pid) for child in multiprocessing.active_children()]
    return {"rate": rate, "main": peak_mib("self"), "worker": max(workers, default=0)}


def peak_mib(process: int | str | None) -> int:
    """Return the peak memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1024


def measure_in_subprocess(args: argparse.Namespace, kind: str, data: Path) -> dict[str, float]:
    """Measure one variant in its own process, with its indexes in the data folder."""
    sizes = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in ("batches", "batch_size", "workers")]
    command = [sys.executable, __file__, "--child", kind, "--data", str(data), *sizes]
    environment = os.environ | {"ZEBRA_CACHE": str(data / "cache")}
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    result: dict[str, float] = json.loads(process.stdout)
    return result


def main() -> None:
    """Write the data, measure all variants in turn, and save the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1536)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", choices=KINDS, help="measure one variant in this process and print it")
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        images = [draw_image(number) for number in range(args.images)]
        few, many = (Path(folder, f"{shards}-shards") for shards in (FEW_SHARDS, MANY_SHARDS))
        write_shards(few, images, FEW_SHARDS)
        write_shards(many, images, MANY_SHARDS)
        turns = {kind: (kind, few) for kind in KINDS} | {f"zebra, {MANY_SHARDS} shards": ("zebra bytes", many)}
        rounds = [
            {name: measure_in_subprocess(args, *turn) for name, turn in turns.items()} for _ in range(args.rounds)
        ]

    def median_of(name: str, key: str) -> int:
        return round(median(turn[name][key] for turn in rounds))

    row: dict[str, Any] = {
        "pictures": args.images,
        "mean_file_bytes": round(sum(map(len, images)) / len(images)),
        "batch_size": args.batch_size,
        "workers": args.workers,
        "rounds": args.rounds,
        "pictures_per_second": {name: median_of(name, "rate") for name in turns},
        "times_webdataset": {
            form: round(
                median(turn[f"zebra {form}"]["rate"] / turn[f"webdataset {form}"]["rate"] for turn in rounds), 2
            )
            for form in ("bytes", "normalized")
        },
        "peak_mib": {name: {process: median_of(name, process) for process in ("main", "worker")} for name in turns},
    }
    save_row("loader", row)


if __name__ == "__main__":
    main()
