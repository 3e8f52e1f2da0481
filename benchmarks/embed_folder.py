"""How fast does a folder of JPEGs become a store, against a plain script with open_clip, and does memory stay flat?

    python benchmarks/embed_folder.py [--pictures 2000] [--rounds 3] [--few 2000] [--many 20000]

Half of the pictures are 640 × 480, half 1600 × 1200; they are made: noise with the spectrum of photographs, saved with
quality 88, and the row says how large the files are. The model is a ViT-B/32 with random weights, the same on both
sides. The peer is what open_clip's README leads to: a Dataset that opens a file with Pillow and preprocesses it,
torch's DataLoader with as many workers as there are cores, encode_image in fp32, vectors divided by their length,
numpy.save. zebra writes a store, with thumbnails and flushed to disk, at --precision auto, decoding exactly and fast.

Each measurement is a process of its own, timed without imports and loading the model; all take turns, and the median of
the ratios within a round counts. Files are in the page cache. The vectors are compared with the peer's. Memory is the
high-water mark with a tiny model and small pictures, few and many. The row goes to results/embed_folder.jsonl.
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

from receipt import keep
from zebra.config.embed import EmbedConfig
from zebra.config.export import ExportConfig
from zebra.config.model import ModelConfig, TextConfig, VisionTransformerConfig
from zebra.config.presets import get_preset
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.store import Store
from zebra.text.bpe import BPETokenizer
from zebra.workflows import embed, export

SIZES = ((640, 480), (1600, 1200))
GROUNDS = 16
"""Different pictures of each size; all others are one of these, shifted and marked."""
BATCH = 32
TINY = ModelConfig(
    embed_dim=512,
    image_size=32,
    vision=VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16),
    text=TextConfig(width=64, layers=1, heads=1, vocab_size=520, context_length=16),
)


def ground(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """Draw noise whose spectrum falls like that of photographs, its colours faint."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf  # no mean
    luma, *colours = np.fft.irfft2(
        np.fft.rfft2(rng.standard_normal((3, height, width))) / frequency**1.3, (height, width)
    )
    rgb = np.stack([luma, luma + 0.2 * colours[0], luma + 0.2 * colours[1]], axis=-1)
    return (128 + 45 * rgb / rgb.std()).clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path, number: int, sizes: tuple[tuple[int, int], ...] = SIZES) -> None:
    """Write JPEGs of each size in turn, no two of them equal."""
    folder.mkdir()
    grounds = [[ground(seed, *size) for seed in range(GROUNDS)] for size in sizes]
    for i in range(number):
        pixels = np.roll(grounds[i % len(sizes)][i // len(sizes) % GROUNDS], 37 * i, axis=1)
        pixels[:16, :16] = (i % 256, i // 256, 128)
        Image.fromarray(pixels).save(folder / f"{i:05d}.jpg", quality=88)


def write_model(folder: Path, config: ModelConfig) -> None:
    """Save random weights."""
    torch.manual_seed(0)
    tokenizer = BPETokenizer.train(["a photo of a zebra"], 520, config.text.context_length)
    Bundle(CLIP(config), tokenizer, Preprocess(image_size=config.image_size)).save(folder)


def with_open_clip(model: Path, data: Path, out: Path) -> float:
    """Embed a folder as its users do; return the seconds."""
    library = torch.library.Library(
        "torchvision", "DEF"
    )  # a CPU build of torch lacks what torchvision expects
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


def measured(kind: str, model: Path, data: Path, out: Path) -> dict[str, float]:
    """Run one kind in a process of its own."""
    command = [sys.executable, __file__, "--child", kind, *map(str, (model, data, out))]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1]
    return dict(json.loads(answer))


def speed(home: Path, pictures: int, rounds: int) -> dict[str, Any]:
    """Let all kinds embed one folder, in turn."""
    write_pictures(home / "pictures", pictures)
    write_model(home / "zebra", get_preset("ViT-B/32"))
    export.run(ExportConfig(model=str(home / "zebra"), format="open_clip", out=str(home / "open_clip")))
    models = {kind: home / kind.split()[0] for kind in KINDS}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(rounds):
        for kind in KINDS:
            out = home / f"{kind} {turn}"
            seconds[kind].append(measured(kind, models[kind], home / "pictures", out)["seconds"])
    theirs = np.load(home / "open_clip 0.npy")
    ours = {
        kind: Store.open(home / f"{kind} 0").read_vectors()[1].astype(np.float32)
        for kind in ("zebra", "zebra fast")
    }
    sizes = [path.stat().st_size for path in sorted((home / "pictures").glob("*.jpg"))]
    return {
        "pictures": pictures,
        "mean_file_bytes": {
            "640 × 480": round(float(np.mean(sizes[::2]))),
            "1600 × 1200": round(float(np.mean(sizes[1::2]))),
        },
        "rounds": rounds,
        "precision": Store.open(home / "zebra 0").metadata.precision,
        "pictures_per_second": {kind: round(pictures / median(took), 1) for kind, took in seconds.items()},
        "times_open_clip": {
            kind: round(median(a / b for a, b in zip(seconds["open_clip"], seconds[kind], strict=True)), 2)
            for kind in ours
        },
        "cosine_to_open_clip": {kind: cosines(theirs, vectors) for kind, vectors in ours.items()},
        "cosine_of_fast_to_exact": cosines(ours["zebra"], ours["zebra fast"]),
    }


def cosines(one_NE: NDArray[np.float32], other_NE: NDArray[np.float32]) -> dict[str, float]:
    """Return mean and smallest cosine of vectors in the same order."""
    found_N = (one_NE * other_NE).sum(1) / np.linalg.norm(one_NE, axis=1) / np.linalg.norm(other_NE, axis=1)
    return {"mean": round(float(found_N.mean()), 5), "least": round(float(found_N.min()), 5)}


def memory(home: Path, few: int, many: int) -> dict[str, Any]:
    """Return the peak memory with few and with many pictures, in MiB."""
    write_model(home / "tiny", TINY)
    peaks = {}
    for number in (few, many):
        write_pictures(home / f"{number} pictures", number, ((160, 120),))
        found = measured("zebra", home / "tiny", home / f"{number} pictures", home / f"{number} rows")
        peaks[f"{number} pictures"] = round(found["peak_mib"])
    return {"peak_mib": peaks}


def peak_mib() -> int:
    """Read the high-water mark of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1024


def main() -> None:
    """Measure speed and memory, and keep the row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--few", type=int, default=2000)
    parser.add_argument("--many", type=int, default=20_000)
    parser.add_argument("--child", nargs=4, metavar=("KIND", "MODEL", "DATA", "OUT"))
    told = parser.parse_args()
    if told.child:
        kind, *paths = told.child
        seconds = KINDS[kind](*map(Path, paths))
        print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}))
        return
    with tempfile.TemporaryDirectory() as home:
        row = speed(Path(home), told.pictures, told.rounds) | memory(Path(home), told.few, told.many)
    keep("embed_folder", row)


if __name__ == "__main__":
    main()
