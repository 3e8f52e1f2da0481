"""Images per second of ViT-B/32 or a ResNet, compared with open_clip.

    python benchmarks/embed_images.py [--images 32] [--rounds 7] [--model RN50]

ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 in the environment give the speed of
processors without AVX-512.

Input are Pillow images of 640 × 480, output unit vectors; preprocessing is included on both sides. The peer is
open_clip 3.3.0 as in its README: its transform image by image, `encode_image` in fp32. transformers with its image
processor and `get_image_features` is measured as well. zebra runs in fp32 with torch and onnxruntime, in int8, in bf16
if the processor multiplies it, and with `precision="auto"`. All models have the same random weights and GELU,
open_clip's default. They take turns in one process, the first round is a warm-up, and the result is the median of the
ratios within a round.

fp32 must agree with open_clip to 1e-5 in every component, the smaller formats to a mean cosine of 0.999, over these
images and the golden image. The row goes to results/embed_images.jsonl.
"""

import argparse
import functools
import importlib.metadata
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import zebra
from receipt import save_row
from zebra.config.image_towers import ResNetConfig
from zebra.config.presets import get_preset
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import has_native_bf16
from zebra.pretrained.golden import make_golden_image
from zebra.pretrained.open_clip.layout import write_open_clip
from zebra.pretrained.transformers.layout import write_transformers
from zebra.pretrained.weights import published_state_dict
from zebra.text.bpe import BPETokenizer

Encode = Callable[[list[Image.Image]], Tensor]
VARIANTS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "onnxruntime": {"backend": "onnxruntime"},
    **({"bf16": {"precision": "bf16"}} if has_native_bf16(torch.device("cpu")) else {}),
    "auto": {"precision": "auto"},
}
EXACT = ("fp32", "onnxruntime")
GIGAFLOPS_PER_IMAGE = 8.3
"""Two per multiplication: patches 0.12e9, eleven blocks of 0.354e9, the last block 0.094e9, attention 0.046e9."""


@functools.cache
def import_open_clip() -> ModuleType:
    """Import open_clip, after defining two operators that torchvision needs and a CPU build of torch lacks."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import open_clip

    open_clip.kept_alive = library
    return open_clip


def write_models(folder: Path, name: str = "ViT-B/32") -> None:
    """Write one model with random weights in the layouts of zebra and of the peers; of a ResNet not transformers'."""
    torch.manual_seed(0)
    config = get_preset(name)
    is_resnet = isinstance(config.vision, ResNetConfig)
    config = replace(config, text=replace(config.text, activation="gelu"))
    if not is_resnet:
        config = replace(config, vision=replace(config.vision, activation="gelu"))
    import_open_clip()
    from open_clip.tokenizer import default_bpe  # `import_open_clip` makes open_clip importable

    tokenizer = BPETokenizer.from_merges(default_bpe())
    clip = Bundle(CLIP(config).eval(), tokenizer, Preprocess(image_size=224))
    clip.save(folder / "zebra")
    parts: dict[str, Any] = {
        "config": config,
        "tensors": published_state_dict(clip.model),
        "preprocess": clip.preprocess,
    }
    (folder / "open_clip").mkdir()
    write_open_clip(folder / "open_clip", **parts, tokenizer=None)
    if not is_resnet:
        (folder / "transformers").mkdir()
        write_transformers(folder / "transformers", **parts, tokenizer=tokenizer)


def load_transformers(folder: Path) -> Encode:
    """Return an encoder that follows the documentation of transformers."""
    from transformers import CLIPImageProcessor, CLIPModel

    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPImageProcessor.from_pretrained(folder)

    def encode(images: list[Image.Image]) -> Tensor:
        with torch.no_grad():
            output = model.get_image_features(**processor(images=images, return_tensors="pt"))
            vectors = output if isinstance(output, Tensor) else output.pooler_output
            return F.normalize(vectors, dim=-1)

    return encode


def load_open_clip(folder: Path) -> Encode:
    """Return an encoder that follows the README of open_clip."""
    model, _, transform = import_open_clip().create_model_and_transforms(f"local-dir:{folder}")
    model.eval()

    def encode(images: list[Image.Image]) -> Tensor:
        with torch.no_grad():
            pixels = torch.stack([transform(image) for image in images])
            return F.normalize(model.encode_image(pixels), dim=-1)

    return encode


def draw_images(number: int) -> list[Image.Image]:
    """Draw smooth colors with fine grain."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = rng.integers(-20, 21, smooth.shape, dtype=np.int16)
        images.append(Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)))
    return images


def describe_instructions() -> str:
    """Return the instructions in force: those of torch's own kernels, and the limits of oneDNN and MKL."""
    names = ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
    limits = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    return " ".join([torch.backends.cpu.get_cpu_capability(), *limits])


def measure_ceilings(size: int = 2048, rounds: int = 3) -> dict[str, float]:
    """Return the speed of large matrix products in fp32 and int8."""
    a = torch.randn(size, size)
    b = (a * 20).clamp(-63, 63).to(torch.int8)
    products: dict[str, Callable[[], Tensor]] = {"fp32": lambda: a @ a.T, "int8": lambda: torch._int_mm(b, b.T)}
    seconds = {}
    for name, product in products.items():
        times = []
        for _ in range(1 + rounds):
            began = time.perf_counter()
            product()
            times.append(time.perf_counter() - began)
        seconds[name] = min(times)
    return {f"GFLOP/s of {name} products": round(2 * size**3 / time / 1e9) for name, time in seconds.items()}


def images_per_second(clip: Bundle, num_images: int) -> float:
    """Return the speed of the tower alone, without preprocessing."""
    pixels = torch.randint(0, 256, (num_images, 3, 224, 224), dtype=torch.uint8)
    times = []
    for _ in range(4):
        began = time.perf_counter()
        clip.encode_pixels(pixels)
        times.append(time.perf_counter() - began)
    return num_images / min(times)


def measure(num_images: int = 32, rounds: int = 7, model: str = "ViT-B/32") -> dict[str, Any]:
    """Measure all variants in turn; return the row."""
    is_resnet = model.startswith("RN")
    pixels = draw_images(num_images)
    with tempfile.TemporaryDirectory() as temp_dir:
        write_models(Path(temp_dir), model)
        clips = {
            name: zebra.load(Path(temp_dir) / "zebra", device="cpu", **options) for name, options in VARIANTS.items()
        }
        if not is_resnet:  # a tower of convolutions
            clips["int8"] = clips["fp32"].to_precision("int8", "fp32")
        encode: dict[str, Encode] = {"open_clip": load_open_clip(Path(temp_dir) / "open_clip")}
        if not is_resnet:
            encode["transformers"] = load_transformers(Path(temp_dir) / "transformers")
        encode |= {name: clip.encode_images for name, clip in clips.items()}
        seconds: dict[str, list[float]] = {name: [] for name in encode}
        for number in range(1 + rounds):
            for name in sorted(encode, reverse=number % 2 == 1):
                began = time.perf_counter()
                encode[name](pixels)
                seconds[name].append(time.perf_counter() - began)
        vectors = {name: run([make_golden_image(), *pixels]) for name, run in encode.items()}
    row: dict[str, Any] = {"model": model, "pictures": num_images, "rounds": rounds, "threads": torch.get_num_threads()}
    row |= {"instructions": describe_instructions(), **measure_ceilings()}
    for name, times in seconds.items():
        row[name] = {"images_per_second": round(num_images / median(times[1:]), 1)}
    if "transformers" in seconds:
        peer_ratios = [a / b for a, b in zip(seconds["open_clip"], seconds["transformers"], strict=True)][1:]
        row["transformers"]["times as fast as open_clip"] = round(median(peer_ratios), 2)
    for name, clip in clips.items():
        ratios = [peer / own for peer, own in zip(seconds["open_clip"], seconds[name], strict=True)][1:]
        difference = float((vectors[name] - vectors["open_clip"]).abs().max())
        cosine = float((vectors[name] * vectors["open_clip"]).sum(dim=1).mean())
        assert difference < 1e-5 if name in EXACT else cosine >= 0.999, (name, difference, cosine)
        row[name] |= {
            "precision": clip.precision,
            "times as fast as open_clip": round(median(ratios), 2),
            "in single rounds": [round(min(ratios), 2), round(max(ratios), 2)],
            "largest difference": float(f"{difference:.2g}"),
            "mean cosine": round(cosine, 6),
            "smallest cosine": round(float((vectors[name] * vectors["open_clip"]).sum(dim=1).min()), 6),
        }
    if "int8" in row:
        towers = images_per_second(clips["int8"], num_images)
        share = towers * GIGAFLOPS_PER_IMAGE / row["GFLOP/s of int8 products"]
        row["int8"] |= {"tower's images per second": round(towers, 1), "share of the ceiling": round(share, 3)}
    return row | {
        "versions": {
            name: importlib.metadata.version(name) for name in ("open_clip_torch", "transformers", "onnxruntime")
        }
    }


def main() -> None:
    """Measure and store the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", default="ViT-B/32", help="ViT-B/32 or RN50")
    args = parser.parse_args()
    save_row("embed_images", measure(args.images, args.rounds, args.model))


if __name__ == "__main__":
    main()
