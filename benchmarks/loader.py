"""How fast does the loader turn tar shards into batches, against webdataset with Pillow, and does memory stay flat?

    python benchmarks/loader.py [--pictures 1536] [--batches 60] [--batch-size 64] [--workers 2] [--rounds 7]

From shards of 640 × 480 JPEGs (quality 90, each with a caption) to batches of random crops of 224 pixels with their
captions. Photographs are not at hand, so the pictures are made: noise with the spectrum of photographs (amplitude
1/f), and flat shapes; the row says how large their files are. The peer is webdataset in the workers of torch's
DataLoader, with the steps of open_clip's training: decode("pilrgb"), torchvision's RandomResizedCrop with the range
0.9 to 1, ToTensor, Normalize; no shuffling, which spares it a buffer. It takes part in two forms, since open_clip
normalises in the workers and zebra where it trains:

    bytes        uint8 batches on both sides
    normalised   float32 batches on both sides; those of zebra are normalised in the main process

Each measurement is a process of its own: the first batches are left out, until nothing stands in the queue any more,
and the rest is timed. All take turns; the median of the rounds counts, and so does that of the ratio within a round.
Memory is the high-water mark of the main process and of its largest worker, with all pictures in few shards and in
many. Files are in the page cache. The row goes to results/loader.jsonl.
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

from receipt import keep
from zebra.config.data import DataConfig
from zebra.data.batches import iter_batches
from zebra.data.shard_writer import ShardWriter
from zebra.data.sources import open_source
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess

WIDTH, HEIGHT, SIZE = 640, 480, 224
FEW, MANY = 4, 64
"""Shards."""
WARM = 12
"""Batches left out."""
KINDS = ("zebra bytes", "webdataset bytes", "zebra normalised", "webdataset normalised")


def picture(number: int) -> bytes:
    """Draw and encode one picture."""
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


def write(folder: Path, pictures: list[bytes], shards: int) -> None:
    """Write all pictures as equal shards."""
    with ShardWriter(folder, samples_per_shard=-(-len(pictures) // shards)) as writer:
        for number, data in enumerate(pictures):
            caption = f"picture number {number}, drawn by chance, as the title of a page on the web might be"
            writer.write(f"{number:09d}", {"jpg": data, "txt": caption.encode()})


def zebra(told: argparse.Namespace) -> Iterator[tuple[Tensor, tuple[str, ...]]]:
    """Yield ours."""
    stream = iter_batches(
        open_source(told.data, DataConfig()),
        image_size=SIZE,
        batch_size=told.batch_size,
        seed=0,
        start_sample=0,
        num_steps=WARM + told.batches,
        num_workers=told.workers,
        config=DataConfig(),
    )
    normalise = Preprocess(image_size=SIZE).normalize if "normalised" in told.child else lambda images: images
    for batch in stream:
        yield normalise(batch.images), batch.captions


def webdataset(told: argparse.Namespace) -> Iterator[tuple[Tensor, list[str]]]:
    """Yield the peer's."""
    library = torch.library.Library(
        "torchvision", "DEF"
    )  # a CPU build of torch lacks what torchvision expects
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import webdataset as wds
    from torchvision import transforms

    if "normalised" in told.child:
        to_tensor = [transforms.ToTensor(), transforms.Normalize(OPENAI_MEAN, OPENAI_STD)]
    else:
        to_tensor = [transforms.PILToTensor()]
    bicubic = transforms.InterpolationMode.BICUBIC
    crop = transforms.RandomResizedCrop(SIZE, scale=(0.9, 1.0), interpolation=bicubic)
    pipeline = wds.DataPipeline(
        wds.SimpleShardList(sorted(map(str, Path(told.data).glob("*.tar")))),
        wds.split_by_worker,
        wds.tarfile_to_samples(),
        wds.select(lambda sample: "txt" in sample and "jpg" in sample),
        wds.decode("pilrgb"),
        wds.rename(image="jpg;png;jpeg;webp", text="txt"),
        wds.map_dict(image=transforms.Compose([crop, *to_tensor])),
        wds.to_tuple("image", "text"),
        wds.batched(told.batch_size, partial=False),
    ).with_epoch(WARM + told.batches)
    yield from wds.WebLoader(pipeline, batch_size=None, shuffle=False, num_workers=told.workers)


def measure(told: argparse.Namespace) -> dict[str, float]:
    """Time one kind in this process."""
    torch.set_num_threads(1)
    stream = (zebra if told.child.startswith("zebra") else webdataset)(told)
    seen = 0
    for number, (images, captions) in enumerate(stream):
        assert images.shape == (told.batch_size, 3, SIZE, SIZE)
        assert len(captions) == told.batch_size
        if number == WARM - 1:
            began = time.perf_counter()
        elif number >= WARM:
            seen += len(captions)
        if seen >= told.batches * told.batch_size:
            break
    rate = seen / (time.perf_counter() - began)
    workers = [peak_mib(child.pid) for child in multiprocessing.active_children()]
    return {"rate": rate, "main": peak_mib("self"), "worker": max(workers, default=0)}


def peak_mib(process: int | str | None) -> int:
    """Read the high-water mark of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1024


def child(told: argparse.Namespace, kind: str, data: Path) -> dict[str, float]:
    """Measure one kind in a process of its own, with its indexes beside the data."""
    sizes = [
        f"--{name.replace('_', '-')}={getattr(told, name)}" for name in ("batches", "batch_size", "workers")
    ]
    command = [sys.executable, __file__, "--child", kind, "--data", str(data), *sizes]
    environment = os.environ | {"ZEBRA_CACHE": str(data / "cache")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    """Make the data, let all kinds take turns, keep the row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=1536)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", choices=KINDS, help="measure this kind in this process and print it")
    parser.add_argument("--data", type=Path)
    told = parser.parse_args()
    if told.child:
        print(json.dumps(measure(told)))
        return
    with tempfile.TemporaryDirectory() as home:
        pictures = [picture(number) for number in range(told.pictures)]
        few, many = (Path(home, f"{shards}-shards") for shards in (FEW, MANY))
        write(few, pictures, FEW)
        write(many, pictures, MANY)
        turns = {kind: (kind, few) for kind in KINDS} | {f"zebra, {MANY} shards": ("zebra bytes", many)}
        rounds = [{name: child(told, *turn) for name, turn in turns.items()} for _ in range(told.rounds)]

    def typical(name: str, what: str) -> int:
        return round(median(turn[name][what] for turn in rounds))

    row: dict[str, Any] = {
        "pictures": told.pictures,
        "mean_file_bytes": round(sum(map(len, pictures)) / len(pictures)),
        "batch_size": told.batch_size,
        "workers": told.workers,
        "rounds": told.rounds,
        "pictures_per_second": {name: typical(name, "rate") for name in turns},
        "times_webdataset": {
            form: round(
                median(turn[f"zebra {form}"]["rate"] / turn[f"webdataset {form}"]["rate"] for turn in rounds),
                2,
            )
            for form in ("bytes", "normalised")
        },
        "peak_mib": {name: {who: typical(name, who) for who in ("main", "worker")} for name in turns},
    }
    keep("loader", row)


if __name__ == "__main__":
    main()
