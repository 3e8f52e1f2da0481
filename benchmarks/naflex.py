"""Comparison of NaFlex with the SigLIP tower of a fixed size, and of ways to batch images of various shapes.

    python benchmarks/naflex.py [--layers 3] [--rounds 3]

All towers have random weights, width 768 and patches of 16 pixels; the encoders take 64 preprocessed images of at most
256 patches. The ways take turns in one process, on one thread, and the CPU time of that thread is measured, so that
other programs on the machine have less influence. `padded` fills every image up to the longest of the batch and masks
the padding; `flat` runs linear layers and norms on the patches of all images as one sequence, and attention per number
of patches. The result goes to results/naflex.jsonl.
"""

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from receipt import save_row
from zebra.config.image_towers import NaflexVisionConfig, SiglipVisionConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import SiglipTextConfig
from zebra.images.naflex import group_by_length, stack_patches
from zebra.images.patch_grid import fit_grid
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.models.image.naflex import NaflexVision, resize_positions
from zebra.models.length_groups import TextsByLength
from zebra.pretrained.backends import TorchImageEncoder
from zebra.values import PatchBatch

PATCH, MAX_PATCHES, SIDE, NUM_IMAGES = 16, 256, 256, 64
ASPECT_RATIOS = (1, 4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9, 9 / 16)
"""Of photos; a quarter of the images has a random aspect ratio instead."""


def build_model(config_type: type[NaflexVisionConfig] | type[SiglipVisionConfig], layers: int) -> CLIP:
    """Return a model with a small text tower."""
    vision = config_type(width=768, layers=layers, heads=12, patch_size=PATCH)
    text = SiglipTextConfig(width=16, layers=1, heads=1, vocab_size=10, context_length=8)
    torch.manual_seed(0)
    return CLIP(ModelConfig(embed_dim=768, image_size=SIDE, vision=vision, text=text, logit_bias=True)).eval()


def make_images() -> list[Tensor]:
    """Return images of noise with the shapes of photos."""
    dice, rng = random.Random(0), np.random.default_rng(0)
    aspects = [dice.choice(ASPECT_RATIOS) if index % 4 else 2 ** dice.uniform(-1.5, 1.5) for index in range(NUM_IMAGES)]
    grids = [fit_grid(round(800 * aspect), 800, patch_size=PATCH, max_num_patches=MAX_PATCHES) for aspect in aspects]
    return [
        torch.from_numpy(rng.integers(0, 256, (3, rows * PATCH, columns * PATCH), dtype=np.uint8))
        for rows, columns in grids
    ]


def encode_padded(model: CLIP, preprocess: Preprocess, images: list[Tensor]) -> Tensor:
    """Encode all images as one batch with a mask."""
    return model.encode_images(preprocess.normalize_patches(stack_patches(images, PATCH)))


def encode_flat(model: CLIP, preprocess: Preprocess, images: list[Tensor]) -> Tensor:
    """Encode all images as one sequence of patches."""
    tower = model.visual
    assert isinstance(tower, NaflexVision)
    order, batches = group_by_length(images, PATCH)
    embedded = [_embed_patches(tower, preprocess.normalize_patches(batch)) for batch in batches]
    empty = torch.zeros(0, dtype=torch.int64)
    groups = TextsByLength(empty, empty, empty, empty, tuple((len(x), x.shape[1]) for x in embedded))
    x_ND = tower.ln_post(tower.transformer(torch.cat([x.flatten(0, 1) for x in embedded]), attn_mask=groups))
    features = torch.cat([tower.pool(group) for group in groups.split(x_ND)])[order]
    return model.project_image_features(features)


def _embed_patches(tower: NaflexVision, batch: PatchBatch) -> Tensor:
    x_BPD = tower.patch_embed(batch.patches_BPI)
    return x_BPD + resize_positions(tower.positional_embedding, batch.grid_B2, x_BPD.shape[1])


def main() -> None:
    """Measure all ways in turns and save a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    fixed, naflex = (build_model(kind, args.layers) for kind in (SiglipVisionConfig, NaflexVisionConfig))
    square = Preprocess(image_size=SIDE, resize="squash")
    flexible = replace(square, resize="naflex", patch_size=PATCH, max_num_patches=MAX_PATCHES)
    squares = torch.randint(0, 256, (NUM_IMAGES, 3, SIDE, SIDE), dtype=torch.uint8)
    images = make_images()
    ways: dict[str, Callable[[], Tensor]] = {
        "SigLIP, squares": lambda: TorchImageEncoder(fixed, square)(squares),
        "NaFlex, squares": lambda: TorchImageEncoder(naflex, flexible)(squares),
        "NaFlex, equal lengths": lambda: TorchImageEncoder(naflex, flexible)(images),
        "NaFlex, padded": lambda: encode_padded(naflex, flexible, images),
        "NaFlex, flat": lambda: encode_flat(naflex, flexible, images),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    outputs: dict[str, Tensor] = {}
    with torch.inference_mode():
        for _ in range(args.rounds):
            for name, encode in ways.items():
                start = time.thread_time()
                outputs[name] = encode()
                seconds[name].append(time.thread_time() - start)
    for name in ("NaFlex, padded", "NaFlex, flat"):
        assert torch.allclose(outputs[name], outputs["NaFlex, equal lengths"], atol=1e-5), name
    num_patches = sum(image.shape[1] * image.shape[2] for image in images) // PATCH**2
    counts = dict.fromkeys(ways, num_patches) | dict.fromkeys(list(ways)[:2], NUM_IMAGES * MAX_PATCHES)
    rates = {name: counts[name] / min(times) for name, times in seconds.items()}
    save_row(
        "naflex",
        {
            "layers": args.layers,
            "images": NUM_IMAGES,
            "patches": num_patches,
            "batches of equal lengths": len(group_by_length(images, PATCH)[1]),
            "patches per second": {name: round(rate) for name, rate in rates.items()},
            "relative to SigLIP": {name: round(rate / rates["SigLIP, squares"], 3) for name, rate in rates.items()},
            "all seconds": {name: [round(value, 2) for value in times] for name, times in seconds.items()},
            "note": "CPU time of one thread, best round",
        },
    )


if __name__ == "__main__":
    main()
