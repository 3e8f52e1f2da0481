"""A small SigLIP model, random images, and files that look old."""

import os

import numpy as np
import torch

from zebra.config.image_towers import SiglipVisionConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import SiglipTextConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle


def make_old(folder):
    """Make every file an hour old, because the digests of new files are not cached."""
    for path in folder.iterdir():
        then = path.stat().st_mtime - 3600
        os.utime(path, (then, then))


def random_images(n=3):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (50 + 9 * i, 70, 3), dtype=np.uint8) for i in range(n)]


def build_siglip_bundle():
    torch.manual_seed(0)
    vision = SiglipVisionConfig(width=64, layers=2, heads=2, patch_size=14)
    text = SiglipTextConfig(width=64, layers=1, heads=2, vocab_size=50, context_length=8)
    config = ModelConfig(embed_dim=64, image_size=64, vision=vision, text=text, logit_bias=True)
    return Bundle(CLIP(config), None, Preprocess(image_size=64))
