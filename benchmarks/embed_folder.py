"""Speed and memory of embedding a folder of JPEGs, compared with a script that uses open_clip.

    python benchmarks/embed_folder.py [--images 2000] [--rounds 3] [--few 2000] [--many 20000]

Half of the images are 640 × 480, half 1600 × 1200. They are synthetic: noise with the spectrum of photographs, saved
with quality 88; the row records the file sizes. Both sides use the same ViT-B/32 with random weights. The peer follows
open_clip's README: a Dataset that opens files with Pillow and preprocesses them, a DataLoader with one worker per core,
encode_image in fp32, normalized vectors, numpy.save. zebra writes a durable store with thumbnails at --precision auto,
with exact and with fast decoding.

Each measurement runs in its own process and excludes imports and model loading. All variants take turns, and the result
is the median of the ratios within a round. Files are in the page cache. The vectors are compared with the peer's.
Memory is the peak with a tiny model and small images, few and many. The row goes to results/embed_folder.jsonl.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from receipt import save_row
from zebra.bench.inputs import draw_photo
from zebra.config.embed import EmbedConfig
from zebra.config.export import ExportConfig
from zebra.config.image_towers import VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.presets import get_preset
from zebra.config.text_towers import TextConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.store import Store
from zebra.text.bpe import BPETokenizer
from zebra.workflows import embed, export

SIZES = ((640, 480), (1600, 1200))
NUM_BACKGROUNDS = 16
"""Different images of each size; all others are shifted and marked copies."""
BATCH = 32
TINY = ModelConfig(
    embed_dim=512,
    image_size=32,
    vision=VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16),
    text=TextConfig(width=64, layers=1, heads=1, vocab_size=520, context_length=16),
)


def write_images(folder: Path, number: int, sizes: tuple[tuple[int, int], ...] = SIZES) -> None:
    """Write distinct JPEGs, with the sizes in turn."""
    folder.mkdir()
    backgrounds = [[draw_photo(seed, *size) for seed in range(NUM_BACKGROUNDS)] for size in sizes]
    for i in range(number):
        pixels = np.roll(backgrounds[i % len(sizes)][i // len(sizes) % NUM_BACKGROUNDS], 37 * i, axis=1)
        pixels[:16, :16] = (i % 256, i // 256, 128)
        Image.fromarray(pixels).save(folder / f"{i:05d}.jpg", quality=88)


def write_model(folder: Path, config: ModelConfig) -> None:
    """Save random weights."""
    torch.manual_seed(0)
    tokenizer = BPETokenizer.train(["a photo of a zebra"], 520, config.text.context_length)
    Bundle(CLIP(config), tokenizer, Preprocess(image_size=config.image_size)).save(folder)


def with_open_clip(model: Path, data: Path, out: Path) -> float:
    """Embed a folder as open_clip users do; return the seconds."""
    library = torch.library.Library("torchvision", "DEF")  # a CPU build of torch lacks what torchvision expects
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import open_clip

    clip, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{model}")
    clip.eval()

    class Photos(torch.utils.data.Dataset[torch.Tensor]):
        def __init__(self) -> None:
            self.paths = sorted(data.glob("*.jpg"))

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            pixels: torch.Tensor = preprocess(Image.open(self.paths[index]))
            return pixels

    began = time.perf_counter()
    cores = len(os.sched_getaffinity(0))
    loader = torch.utils.data.DataLoader(Photos(), batch_size=BATCH, num_workers=cores)
    vectors = []
    with torch.no_grad():
        for images in loader:
            features = clip.encode_image(images)
            vectors.append(features / features.norm(dim=-1, keepdim=True))
    np.save(out, torch.cat(vectors).numpy())
    return time.perf_counter() - began


def with_zebra(model: Path, data: Path, out: Path, fast: bool = False) -> float:
    """Embed a folder into a store; return the seconds."""
    return embed.run(EmbedConfig(model=str(model), data=str(data), out=str(out), fast_decode=fast)).seconds


KINDS: dict[str, Callable[[Path, Path, Path], float]] = {
    "open_clip": with_open_clip,
    "zebra": with_zebra,
    "zebra fast": lambda model, data, out: with_zebra(model, data, out, fast=True),
}


def measure(kind: str, model: Path, data: Path, out: Path) -> dict[str, float]:
    """Run one variant in its own process."""
    command = [sys.executable, __file__, "--child", kind, *map(str, (model, data, out))]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1]
    return dict(json.loads(output))


def measure_speed(home: Path, num_images: int, rounds: int) -> dict[str, Any]:
    """Embed one folder with all variants in turn."""
    write_images(home / "images", num_images)
    write_model(home / "zebra", get_preset("ViT-B/32"))
    export.run(ExportConfig(model=str(home / "zebra"), format="open_clip", out=str(home / "open_clip")))
    models = {kind: home / kind.split()[0] for kind in KINDS}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(rounds):
        for kind in KINDS:
            out = home / f"{kind} {turn}"
            seconds[kind].append(measure(kind, models[kind], home / "images", out)["seconds"])
    peer_vectors = np.load(home / "open_clip 0.npy")
    zebra_vectors = {
        kind: Store.open(home / f"{kind} 0").read_vectors()[1].astype(np.float32) for kind in ("zebra", "zebra fast")
    }
    sizes = [path.stat().st_size for path in sorted((home / "images").glob("*.jpg"))]
    return {
        "images": num_images,
        "mean_file_bytes": {
            "640 × 480": round(float(np.mean(sizes[::2]))),
            "1600 × 1200": round(float(np.mean(sizes[1::2]))),
        },
        "rounds": rounds,
        "precision": Store.open(home / "zebra 0").metadata.precision,
        "images_per_second": {kind: round(num_images / median(times), 1) for kind, times in seconds.items()},
        "times_open_clip": {
            kind: round(median(a / b for a, b in zip(seconds["open_clip"], seconds[kind], strict=True)), 2)
            for kind in zebra_vectors
        },
        "cosine_to_open_clip": {kind: cosines(peer_vectors, vectors) for kind, vectors in zebra_vectors.items()},
        "cosine_of_fast_to_exact": cosines(zebra_vectors["zebra"], zebra_vectors["zebra fast"]),
    }


def cosines(one_NE: NDArray[np.float32], other_NE: NDArray[np.float32]) -> dict[str, float]:
    """Return the mean and the minimum cosine of vectors in the same order."""
    cosines_N = (one_NE * other_NE).sum(1) / np.linalg.norm(one_NE, axis=1) / np.linalg.norm(other_NE, axis=1)
    return {"mean": round(float(cosines_N.mean()), 5), "min": round(float(cosines_N.min()), 5)}


def measure_memory(home: Path, few: int, many: int) -> dict[str, Any]:
    """Return the peak memory with few and with many images, in MiB."""
    write_model(home / "tiny", TINY)
    peaks = {}
    for number in (few, many):
        write_images(home / f"{number} images", number, ((160, 120),))
        result = measure("zebra", home / "tiny", home / f"{number} images", home / f"{number} rows")
        peaks[f"{number} images"] = round(result["peak_mib"])
    return {"peak_mib": peaks}


def peak_mib() -> int:
    """Return the peak memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1024


def main() -> None:
    """Measure speed and memory, and store the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--few", type=int, default=2000)
    parser.add_argument("--many", type=int, default=20_000)
    parser.add_argument("--child", nargs=4, metavar=("KIND", "MODEL", "DATA", "OUT"))
    args = parser.parse_args()
    if args.child:
        kind, *paths = args.child
        seconds = KINDS[kind](*map(Path, paths))
        print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}))
        return
    with tempfile.TemporaryDirectory() as home:
        row = measure_speed(Path(home), args.images, args.rounds) | measure_memory(Path(home), args.few, args.many)
    save_row("embed_folder", row)


if __name__ == "__main__":
    main()
