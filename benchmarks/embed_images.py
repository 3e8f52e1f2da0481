"""How many pictures does ViT-B/32 embed a second here, and in open_clip?

    python benchmarks/embed_images.py [--pictures 32] [--rounds 7]

Pillow images of 640 × 480 in, unit vectors out, preprocessing counted on both sides. The peer is open_clip 3.3.0 as its
README uses it: its own transform picture by picture, `encode_image` in fp32. Beside it stands transformers with its
image processor and `get_image_features`. zebra: fp32 in torch and in onnxruntime,
bf16, and whatever `precision="auto"` takes here. All have the same random weights and GELU, open_clip's default; they
take turns in one process, the first round warms up, and the median of the ratios within a round counts.

fp32 must agree with open_clip to 1e-5 in every component, the smaller formats to a cosine of 0.999 in the mean, over
these pictures and the model folder's golden one. The row goes to results/embed_images.jsonl.
"""

import argparse
import functools
import importlib.metadata
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
from receipt import keep
from zebra.config.presets import get_preset
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.golden import make_golden_image
from zebra.pretrained.open_clip import write_open_clip
from zebra.pretrained.transformers import write_transformers
from zebra.pretrained.weights import published_state_dict
from zebra.text.bpe import BPETokenizer

Encode = Callable[[list[Image.Image]], Tensor]
WAYS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "onnxruntime": {"backend": "onnxruntime"},
    "bf16": {"precision": "bf16"},
    "auto": {"precision": "auto"},
}
EXACT = ("fp32", "onnxruntime")


@functools.cache
def peer() -> ModuleType:
    """Import open_clip; its torchvision expects two operators that a CPU build of torch does not bring."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import open_clip

    open_clip.kept_alive = library
    return open_clip


def write(folder: Path) -> None:
    """Write one model of random weights as zebra's folder and as the peers'."""
    torch.manual_seed(0)
    config = get_preset("ViT-B/32")
    config = replace(
        config, vision=replace(config.vision, activation="gelu"), text=replace(config.text, activation="gelu")
    )
    peer()
    from open_clip.tokenizer import default_bpe  # `peer` makes open_clip importable

    words = BPETokenizer.from_merges(default_bpe())
    clip = Bundle(CLIP(config).eval(), words, Preprocess(image_size=224))
    clip.save(folder / "zebra")
    same: dict[str, Any] = {
        "config": config,
        "tensors": published_state_dict(clip.model),
        "preprocess": clip.preprocess,
    }
    for name in ("open_clip", "transformers"):
        (folder / name).mkdir()
    write_open_clip(folder / "open_clip", **same, tokenizer=None)
    write_transformers(folder / "transformers", **same, tokenizer=words)


def transformers_way(folder: Path) -> Encode:
    """Embed as transformers' documentation does."""
    from transformers import CLIPImageProcessor, CLIPModel

    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPImageProcessor.from_pretrained(folder)

    def encode(pictures: list[Image.Image]) -> Tensor:
        with torch.no_grad():
            found = model.get_image_features(**processor(images=pictures, return_tensors="pt"))
            vectors = found if isinstance(found, Tensor) else found.pooler_output
            return F.normalize(vectors, dim=-1)

    return encode


def their_way(folder: Path) -> Encode:
    """Embed as open_clip's README does."""
    model, _, transform = peer().create_model_and_transforms(f"local-dir:{folder}")
    model.eval()

    def encode(pictures: list[Image.Image]) -> Tensor:
        with torch.no_grad():
            pixels = torch.stack([transform(picture) for picture in pictures])
            return F.normalize(model.encode_image(pixels), dim=-1)

    return encode


def drawn(number: int) -> list[Image.Image]:
    """Draw smooth colours with fine grain."""
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(number):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = random.integers(-20, 21, smooth.shape, dtype=np.int16)
        pictures.append(Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)))
    return pictures


def images(num_pictures: int = 32, rounds: int = 7) -> dict[str, Any]:
    """Let all take turns; return the row."""
    pictures = drawn(num_pictures)
    with tempfile.TemporaryDirectory() as place:
        write(Path(place))
        clips = {name: zebra.load(Path(place) / "zebra", device="cpu", **how) for name, how in WAYS.items()}
        encode: dict[str, Encode] = {
            "open_clip": their_way(Path(place) / "open_clip"),
            "transformers": transformers_way(Path(place) / "transformers"),
        }
        encode |= {name: clip.encode_images for name, clip in clips.items()}
        seconds: dict[str, list[float]] = {name: [] for name in encode}
        for number in range(1 + rounds):
            for name in sorted(encode, reverse=number % 2 == 1):
                began = time.perf_counter()
                encode[name](pictures)
                seconds[name].append(time.perf_counter() - began)
        vectors = {name: run([make_golden_image(), *pictures]) for name, run in encode.items()}
    row: dict[str, Any] = {"pictures": num_pictures, "rounds": rounds, "threads": torch.get_num_threads()}
    for name, taken in seconds.items():
        row[name] = {"images_per_second": round(num_pictures / median(taken[1:]), 1)}
    theirs = [a / b for a, b in zip(seconds["open_clip"], seconds["transformers"], strict=True)][1:]
    row["transformers"]["times as fast as open_clip"] = round(median(theirs), 2)
    for name, clip in clips.items():
        ratios = [theirs / ours for theirs, ours in zip(seconds["open_clip"], seconds[name], strict=True)][1:]
        difference = float((vectors[name] - vectors["open_clip"]).abs().max())
        cosine = float((vectors[name] * vectors["open_clip"]).sum(dim=1).mean())
        assert difference < 1e-5 if name in EXACT else cosine >= 0.999, (name, difference, cosine)
        row[name] |= {
            "precision": clip.precision,
            "times as fast as open_clip": round(median(ratios), 2),
            "in single rounds": [round(min(ratios), 2), round(max(ratios), 2)],
            "largest difference": float(f"{difference:.2g}"),
            "mean cosine": round(cosine, 6),
        }
    return row | {
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("open_clip_torch", "transformers", "onnxruntime")
        }
    }


def main() -> None:
    """Measure and keep the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    told = parser.parse_args()
    keep("embed_images", images(told.pictures, told.rounds))


if __name__ == "__main__":
    main()
