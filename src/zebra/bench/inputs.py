"""Made-up photos, prompts and captions, the same on every machine."""

import io
import random
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PHOTO_SIZE = (640, 480)
PHOTO_QUALITY = 88
NUM_BACKGROUNDS = 4
"""Different photos; all others are shifted copies."""
LOOKS = """
photo|bad photo|good photo|close-up photo|blurry photo|bright photo|dark photo|cropped photo|noisy photo|picture
black and white photo|photo taken at night|photo taken from far away|low resolution photo|clean photo|dirty old photo
snapshot|drawing|pencil sketch|painting|watercolour|cartoon|comic|logo|sticker|statue|wooden figure|toy|plush version
paper model|mosaic|tattoo|stamp|poster|rendering|video frame|graffiti|silhouette|mirror image|shadow
"""
CLASSES = """
red squirrel|brown trout|great white shark|hammerhead|garden snail|barn owl|house sparrow|goldfinch|mountain goat
sea turtle|steam engine|tea kettle|wooden spoon|rocking chair|grand piano|electric guitar|fire truck|sailing boat
suspension bridge|lighthouse|tree frog|desert lizard|king snake|garden spider|fiddler crab
"""
NOUNS = """
dog|cat|horse|child|woman|man|boy|girl|boat|train|bus|street|kitchen|garden|beach|mountain|river|table|chair|window
bird|flower|bridge|market|station|football|bicycle|umbrella|camera|teacher|musician|farmer|sandwich|birthday cake
skateboard|helmet|airplane
"""
VERBS = "stands|sits|waits|plays|runs|rests|looks|works|walks|sleeps|smiles|jumps"
PLACES = "next to|near|behind|in front of|under|beside|across from"
ADJECTIVES = "small|large|old|young|red|blue|green|wooden|quiet|busy|colorful|broken|happy|tired|white|tall"
JOINTS = "while|and|as|where|because|before"


@cache
def draw_photo(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """Return noise with the spectrum of photographs and weak colors, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf  # removes the mean
    luma, *colors = np.fft.irfft2(
        np.fft.rfft2(rng.standard_normal((3, height, width))) / frequency**1.3, (height, width)
    )
    rgb = np.stack([luma, luma + 0.2 * colors[0], luma + 0.2 * colors[1]], axis=-1)
    pixels: NDArray[np.uint8] = (128 + 45 * rgb / rgb.std()).clip(0, 255).astype(np.uint8)
    return pixels


def draw_jpegs(number: int) -> list[bytes]:
    """Return distinct JPEGs of PHOTO_SIZE, of about 100 kB each."""
    files = []
    for index in range(number):
        pixels = np.roll(draw_photo(index % NUM_BACKGROUNDS, *PHOTO_SIZE), 37 * index, axis=1)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=PHOTO_QUALITY)
        files.append(buffer.getvalue())
    return files


def split_list(text: str) -> list[str]:
    """Split a list at bars and line ends."""
    return text.strip().replace("\n", "|").split("|")


def make_prompts(num_classes: int | None = None) -> list[str]:
    """Return 80 templates filled with classes, 25 by default, as for zero-shot classification."""
    return [
        f"a {look} of {article} {name}."
        for name in split_list(CLASSES)[:num_classes]
        for look in split_list(LOOKS)
        for article in ("a", "the")
    ]


def make_captions(number: int) -> list[str]:
    """Return distinct sentences of 8 to 20 words."""
    draw = random.Random(0)
    nouns, verbs, places, adjectives, joints = map(split_list, (NOUNS, VERBS, PLACES, ADJECTIVES, JOINTS))
    sentences: dict[str, None] = {}
    while len(sentences) < number:
        words: list[str] = []
        num_words = draw.randint(8, 20)
        while len(words) < num_words:
            subject = f"{draw.choice(('a', 'the', 'one', 'that'))} {draw.choice(adjectives)} {draw.choice(nouns)}"
            place = f"{draw.choice(places)} {draw.choice(('a', 'the', 'some'))} {draw.choice(nouns)}"
            words += f"{subject} {draw.choice(verbs)} {place} {draw.choice(joints)}".split()
        sentences[" ".join(words[:num_words])] = None
    return list(sentences)
