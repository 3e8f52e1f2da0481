"""Small models and random images."""

import os

import numpy as np
import torch

from zebra.config.model import (
    ModelConfig,
    ResNetConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
    TextConfig,
    VisionTransformerConfig,
)
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer

CAPTIONS = ["a photo of a horse", "a photo of a striped cat", "two spotted dogs in the snow"] * 5


def build_bundle(kind="vit", seed=0):
    torch.manual_seed(seed)
    tokenizer = BPETokenizer.train(CAPTIONS, 560, 16)
    vision = {
        "vit": VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16),
        "resnet": ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4),
    }[kind]
    text = TextConfig(width=64, layers=1, heads=1, vocab_size=tokenizer.vocab_size, context_length=16)
    config = ModelConfig(embed_dim=32, image_size=64, vision=vision, text=text)
    return Bundle(CLIP(config), tokenizer, Preprocess(image_size=64))


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
