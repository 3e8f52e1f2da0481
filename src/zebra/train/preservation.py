"""Preservation: keep vectors of generic inputs near those of the initial model.

Fine-tuning rarely has data of what the initial model knows. Synthetic images and random words of the tokenizer's
vocabulary stand in for it: their vectors are computed once with the initial model, and the trained model must keep
them. The images are dead leaves (overlapping shapes of all sizes) and noise with the spectrum of natural images, which
suffice to learn image features (Baradad et al. 2021, arXiv 2106.05963).
"""

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from zebra.distributed import ProcessGroup
from zebra.images.augment import SquareCrop, patch_crop
from zebra.images.preprocess import Preprocess
from zebra.losses import feature_loss
from zebra.pretrained.bundle import Bundle
from zebra.text.templates import fill_template
from zebra.text.tokenizers import Tokenizer
from zebra.values import PatchBatch

NUM_ANCHORS = 1024
"""Number of images, and of texts, whose vectors are kept."""
ENCODE_BATCH = 64
NOISE_FRACTION = 0.25
"""Fraction of the images that are noise; the others are dead leaves."""
MAX_WORDS = 4
MIN_WORD_LENGTH = 3


@dataclass(frozen=True, slots=True)
class AnchorBatch:
    """Generic images and texts of a step in this process, with the vectors of the initial model."""

    images: Tensor | PatchBatch
    """Normalized pixels [M, 3, H, W] or patches."""
    tokens_ML: Tensor
    """int64."""
    image_ME: Tensor
    text_ME: Tensor
    weight: float


class Anchors:
    """Generic images and texts with their vectors by the initial model."""

    def __init__(self, clip: Bundle, num_per_step: int, weight: float, seed: int, group: ProcessGroup) -> None:
        """Draw the images and texts and encode them; equal in all processes.

        Args:
            clip: The initial model, not yet trained.
            num_per_step: Number of images, and of texts, of a step in all processes.
            weight: Weight of the term.
            seed: Seed of the images, the texts and their choice.
        """
        self.weight, self.seed, self.group = weight, seed, group
        self.preprocess, self.tokenizer, self.device = clip.preprocess, clip.require_tokenizer(), clip.device
        self.num_local = max(1, min(num_per_step, NUM_ANCHORS) // group.world_size)
        rng = np.random.default_rng([seed, NUM_ANCHORS])
        self.images = _draw_images(clip.preprocess, rng)
        self.texts = _write_texts(self.tokenizer, clip.templates, rng)
        model = clip.model.eval()
        with torch.inference_mode():
            parts = [
                model(self._pixels(rows), self._tokens(rows))[:2]
                for rows in np.array_split(np.arange(NUM_ANCHORS), NUM_ANCHORS // ENCODE_BATCH)
            ]
        self.image_NE, self.text_NE = (torch.cat(vectors).clone() for vectors in zip(*parts, strict=True))

    def sample(self, step: int) -> AnchorBatch:
        """Return the anchors of a step; they depend on seed and step alone."""
        rows = np.random.default_rng([self.seed, step]).choice(
            NUM_ANCHORS, self.num_local * self.group.world_size, replace=False
        )[self.group.rank * self.num_local :][: self.num_local]
        return AnchorBatch(self._pixels(rows), self._tokens(rows), self.image_NE[rows], self.text_NE[rows], self.weight)

    def _pixels(self, rows: NDArray[np.int64]) -> Tensor | PatchBatch:
        preprocess = self.preprocess
        crop = patch_crop(preprocess)
        if crop is not None:
            return preprocess.normalize_patches(crop.to_batch(self.images[rows]).to(self.device))
        pixels = SquareCrop(preprocess.image_size).to_batch(self.images[rows])
        return preprocess.normalize(pixels.to(self.device))

    def _tokens(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.tokenizer.encode([self.texts[row] for row in rows], truncate=True).ids)


SampleAnchors = Callable[[int], AnchorBatch | None]
"""Step → anchors; None without preservation."""


def preservation_terms(
    anchors: AnchorBatch, image_ME: Tensor, text_ME: Tensor, group: ProcessGroup
) -> dict[str, Tensor]:
    """Return the weighted distances of the anchors' vectors from those of the initial model, by name."""
    return {
        "preserved_images": anchors.weight * feature_loss(image_ME, anchors.image_ME, group),
        "preserved_texts": anchors.weight * feature_loss(text_ME, anchors.text_ME, group),
    }


def _draw_images(preprocess: Preprocess, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the images as the loader delivers crops: uint8 [N, *crop.shape]."""
    side, crop = preprocess.image_size, patch_crop(preprocess) or SquareCrop(preprocess.image_size)
    images = np.empty((NUM_ANCHORS, *crop.shape), np.uint8)
    for image in images:
        draw = draw_noise if rng.random() < NOISE_FRACTION else draw_dead_leaves
        crop.write(draw(side, rng), (0, 0, side, side), image)
    return images


def draw_dead_leaves(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw ellipses and polygons of random sizes and colors over each other, uint8 [side, side, 3]."""
    canvas = Image.new("RGB", (side, side), _random_color(rng))
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(3, 40))):
        x, y = rng.uniform(0, side, 2)
        radius = side * (0.03 + 0.5 * rng.random() ** 3)
        if rng.random() < 0.4:
            height = radius * rng.uniform(0.4, 1)
            pen.ellipse((x - radius, y - height, x + radius, y + height), fill=_random_color(rng))
            continue
        num_corners, turn = int(rng.integers(3, 7)), rng.uniform(0, 2 * math.pi)
        angles = [turn + 2 * math.pi * corner / num_corners for corner in range(num_corners)]
        lengths = radius * rng.uniform(0.5, 1, num_corners)
        pen.polygon(
            [(x + r * math.cos(angle), y + r * math.sin(angle)) for r, angle in zip(lengths, angles, strict=True)],
            fill=_random_color(rng),
        )
    return np.array(canvas)


def draw_noise(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw colored noise whose amplitude falls with a power of the frequency, uint8 [side, side, 3]."""
    frequency = np.fft.fftfreq(side)
    radius = np.hypot(frequency[:, None], frequency)
    radius[0, 0] = 1 / side
    spectrum = np.fft.fft2(rng.normal(size=(3, side, side))) / radius ** rng.uniform(0.5, 2)
    noise = np.fft.ifft2(spectrum).real
    noise = (noise - noise.mean((1, 2), keepdims=True)) / noise.std((1, 2), keepdims=True)
    pixels = noise * rng.uniform(0.1, 0.3, (3, 1, 1)) + rng.uniform(0.2, 0.8, (3, 1, 1))
    return np.ascontiguousarray((255 * pixels.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0))


def _random_color(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def _write_texts(tokenizer: Tokenizer, templates: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """Return random words of the vocabulary, two thirds of them in the model's own templates."""
    words = list_vocabulary_words(tokenizer)
    texts = []
    for _ in range(NUM_ANCHORS):
        phrase = " ".join(rng.choice(words, int(rng.integers(1, MAX_WORDS + 1))))
        is_filled = templates and rng.random() < 2 / 3
        texts.append(fill_template(templates[int(rng.integers(len(templates)))], phrase) if is_filled else phrase)
    return texts


def list_vocabulary_words(tokenizer: Tokenizer) -> list[str]:
    """Return the tokens that are words, in the order of the alphabet, from the tokenizer's file in any format.

    Tokens mark the start of a word (▁ or Ġ), its end (</w>) or its continuation (##). A tokenizer without words yields
    single letters.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        tokenizer.save(path)
        vocabulary = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
    tokens = [entry if isinstance(entry, str) else entry[0] for entry in vocabulary]  # Unigram: [token, score]
    for start, end in (("", "</w>"), ("▁", ""), ("Ġ", ""), ("", "")):
        marked = [token for token in tokens if token.startswith(start) and token.endswith(end)]
        words = {token.removeprefix(start).removesuffix(end) for token in marked}
        words = {word for word in words if len(word) >= MIN_WORD_LENGTH and word.isalpha()}
        if words:
            return sorted(words)
    return [chr(code) for code in range(ord("a"), ord("z") + 1)]
