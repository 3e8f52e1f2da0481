"""ViT-B/32 with random weights: a model that needs no download."""

from dataclasses import replace
from pathlib import Path

import torch

from zebra.bench.inputs import make_captions, make_prompts
from zebra.config.image_towers import VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer
from zebra.text.clip_vocabulary import find_openai_tokenizer

ARCHITECTURE = "ViT-B/32"
WEIGHT_BYTES = 605_000_000
NUM_TRAINING_CAPTIONS = 200


def build_random_model(device: torch.device) -> Bundle:
    """Return the model with GELU, as most published ones have it.

    Without OpenAI's vocabulary on this machine, its tokenizer is trained on the texts that are measured.
    """
    text = TextConfig(width=512, layers=12, heads=8, activation="gelu")
    tokenizer = find_openai_tokenizer(text.context_length, Path(ARCHITECTURE)) or _train_tokenizer(text)
    config = ModelConfig(
        embed_dim=512,
        image_size=224,
        vision=VisionTransformerConfig(width=768, layers=12, heads=12, patch_size=32, activation="gelu"),
        text=replace(text, vocab_size=tokenizer.vocab_size),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIP(config)
    fingerprint = f"random-{tokenizer.fingerprint}-torch-{torch.__version__}"
    return Bundle(model.to(device).eval(), tokenizer, Preprocess(image_size=config.image_size), lambda: fingerprint)


def _train_tokenizer(text: TextConfig) -> BPETokenizer:
    texts = make_prompts() + make_captions(NUM_TRAINING_CAPTIONS)
    return BPETokenizer.train(texts, text.vocab_size, text.context_length)
