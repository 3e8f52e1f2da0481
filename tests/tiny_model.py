"""A tiny model with random weights, for tests that need a model but no particular one."""

from pathlib import Path

import tokenizers
import torch
from tokenizers import models, normalizers

from zebra.config.image_towers import NaflexVisionConfig, ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer
from zebra.text.siglip_tokenizer import SiglipTokenizer

CAPTIONS = ["a photo of a horse", "a photo of a striped cat", "two spotted dogs in the snow"] * 5
"""What the tokenizer is trained on."""
VISION_CONFIGS = {
    "vit": VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16),
    "resnet": ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4),
    "naflex": NaflexVisionConfig(width=32, layers=1, heads=2, patch_size=16),
}
NAFLEX_PREPROCESS = Preprocess(image_size=64, resize="naflex", patch_size=16, max_num_patches=20)


def build_tiny_model(kind: str = "vit", seed: int = 0) -> Bundle:
    """Build a model of 64-pixel images, texts of 16 tokens and vectors of width 32; each seed gives other weights."""
    torch.manual_seed(seed)
    tokenizer = BPETokenizer.train(CAPTIONS, 560, 16)
    text = TextConfig(width=64, layers=1, heads=1, vocab_size=tokenizer.vocab_size, context_length=16)
    config = ModelConfig(embed_dim=32, image_size=64, vision=VISION_CONFIGS[kind], text=text)
    preprocess = NAFLEX_PREPROCESS if kind == "naflex" else Preprocess(image_size=64)
    return Bundle(CLIP(config), tokenizer, preprocess)


def save_tiny_model(folder: Path, seed: int = 0, kind: str = "vit") -> Path:
    """Save the model and return the folder."""
    build_tiny_model(kind, seed).save(folder)
    return folder


def build_siglip2_tokenizer(context_length: int = 64) -> SiglipTokenizer:
    """Return a tokenizer of SigLIP 2's kind: a BPE with byte fallback, here of bytes only, that lower-cases."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: index for index, token in enumerate(special)}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    return SiglipTokenizer(backend, context_length, eos_token="<eos>", pad_token="<pad>")
