"""Near duplicates: planted copies that zebra and imagededup find, decontamination, and the cost by size.

    python benchmarks/copies.py --photos FOLDER --save      (needs: pip install imagededup)

Originals are drawn animals, textures, pages of text, and tiles of 300 pixels of the photos in FOLDER, without those of
one color. Each has a copy of the same part (recompressed to JPEG 30 or 60, halved, shrunk to 0.3 or doubled) and a
cropped one (0.9 to 0.7 of the sides, in the second row 0.7 to 0.5), rescaled by 0.6 to 1.2 and compressed to JPEG 75.
A found copy is in a group with its original; precision is the share of pairs of a kept image and a copy of it that are
true. Times are CPU seconds of one thread.
"""

import argparse
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from receipt import save_row
from zebra.curate.copies import CopyIndex, find_originals
from zebra.curate.image_rules import MIN_CONTRAST
from zebra.curate.signatures import Signature, compute_signature, is_copy
from zebra.images.distort import distort_image
from zebra.images.local_features import FEATURE_DTYPE, WORD_BITS
from zebra.images.perceptual_hash import PerceptualHashIndex
from zebra.menagerie.sample import generate_sample

TILE_SIDE = 300
PEER_DISTANCES = (0, 5, 10)
"""Largest distances in bits for imagededup's pHash; 10 is its default."""
FEATURES_PER_IMAGE, MAX_FEATURE_IMAGES = 300, 100_000
"""Random features per image, and the largest number of images with them: 3 GB of memory."""
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "that",
    "it",
    "was",
    "for",
    "on",
    "as",
    "with",
    "they",
    "at",
    "have",
    "from",
    "by",
]


def draw_texture(rng: np.random.Generator) -> Image.Image:
    """Return smooth spots at several scales."""
    image = Image.new("RGB", (320, 240), "gray")
    for scale in range(5):
        small = rng.integers(0, 256, (3 * 2**scale, 4 * 2**scale, 3), dtype=np.uint8)
        layer = Image.fromarray(small).resize(image.size, Image.Resampling.BICUBIC)
        image = Image.blend(image, layer, 0.45)
    return image


def draw_text(rng: np.random.Generator) -> Image.Image:
    """Return a page of words."""
    image = Image.new("RGB", (300, 220), "white")
    for line in range(9):
        text = " ".join(rng.choice(WORDS, 9))
        ImageDraw.Draw(image).text((8, 8 + 23 * line), text, fill="black", font_size=16)
    return image


def cut_tiles(folder: Path) -> Iterator[Image.Image]:
    """Yield tiles of all photos in a folder that show more than one color."""
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]):
        photo = Image.open(path).convert("RGB")
        for top in range(0, photo.height - TILE_SIDE // 2, TILE_SIDE):
            for left in range(0, photo.width - TILE_SIDE // 2, TILE_SIDE):
                tile = photo.crop((left, top, min(left + TILE_SIDE, photo.width), min(top + TILE_SIDE, photo.height)))
                if np.asarray(tile.convert("L")).std() >= MIN_CONTRAST:
                    yield tile


def compress(image: Image.Image, quality: int) -> Image.Image:
    """Return what is left of an image after JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def rescale(image: Image.Image, factor: float) -> Image.Image:
    """Return an image of other size, at least 24 pixels wide and high."""
    factor = max(factor, 24 / min(image.size))
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def crop(image: Image.Image, rng: np.random.Generator, low: float, high: float) -> Image.Image:
    """Return a rescaled and compressed crop of low to high of both sides."""
    width, height = (round(float(rng.uniform(low, high)) * side) for side in image.size)
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    cropped = image.crop((left, top, left + width, top + height))
    return compress(rescale(cropped, float(rng.uniform(0.6, 1.2))), 75)


SAME: tuple[Callable[[Image.Image], Image.Image], ...] = (
    lambda image: compress(image, 30),
    lambda image: compress(image, 60),
    lambda image: rescale(image, 0.5),
    lambda image: rescale(image, 0.3),
    lambda image: rescale(image, 2.0),
)


def score_pairs(pairs: set[tuple[int, int]], original_N: list[int], names: list[str]) -> dict[str, Any]:
    """Return the recall by kind of copy and of original, and the precision of pairs of an image and its copy."""
    found: dict[str, list[bool]] = defaultdict(list)
    for index, original in enumerate(original_N):
        if original != index:
            is_found = (original, index) in pairs or (index, original) in pairs
            kind, source = names[index].split()
            for key in (kind, f"{kind} {source}"):
                found[key].append(is_found)
    num_true = sum(original_N[first] == original_N[second] for first, second in pairs)
    recall = {key: round(float(np.mean(values)), 4) for key, values in sorted(found.items())}
    return {"recall": recall, "precision": round(num_true / max(1, len(pairs)), 4), "pairs": len(pairs)}


def find_with_zebra(images: list[Image.Image]) -> tuple[set[tuple[int, int]], dict[str, float]]:
    """Return all pairs in groups of copies, and the seconds per image."""
    start = time.process_time()
    signatures = [compute_signature(image) for image in images]
    middle = time.process_time()
    originals = find_originals(signatures).original_N.tolist()
    stop = time.process_time()
    groups: dict[int, list[int]] = defaultdict(list)
    for index, original in enumerate(originals):
        groups[original].append(index)
    pairs = {(a, b) for group in groups.values() for a in group for b in group if a < b}
    seconds = {"signature": (middle - start) / len(images), "search": (stop - middle) / len(images)}
    return pairs, {key: round(1000 * value, 2) for key, value in seconds.items()}


def find_with_imagededup(images: list[Image.Image]) -> dict[int, tuple[set[tuple[int, int]], float]]:
    """Return the pairs for each distance, and the milliseconds per image for hash and search."""
    from imagededup.methods import PHash

    hasher = PHash(verbose=False)
    start = time.process_time()
    hashes = {str(index): hasher.encode_image(image_array=np.asarray(image)) for index, image in enumerate(images)}
    hash_seconds = time.process_time() - start
    results = {}
    for distance in PEER_DISTANCES:
        start = time.process_time()
        found = hasher.find_duplicates(
            encoding_map=hashes, max_distance_threshold=distance, num_dist_workers=0, search_method="brute_force_cython"
        )
        seconds = hash_seconds + time.process_time() - start
        pairs = {(int(a), int(b)) for a, others in found.items() for b in others if int(a) < int(b)}
        results[distance] = pairs, round(1000 * seconds / len(images), 2)
    return results


def measure_copies(sources: dict[str, list[Image.Image]], low: float, high: float) -> dict[str, Any]:
    """Plant copies and search for them with both."""
    rng = np.random.default_rng(0)
    originals = [(f"original {name}", image) for name, images in sources.items() for image in images]
    images, names = [image for _, image in originals], [name for name, _ in originals]
    original_N = list(range(len(originals)))
    for index, (name, image) in enumerate(originals):
        source = name.split()[1]
        for kind, copy in (("same", SAME[index % len(SAME)](image)), ("crop", crop(image, rng, low, high))):
            images.append(copy)
            names.append(f"{kind} {source}")
            original_N.append(index)
    order = sorted(range(len(images)), key=lambda index: -images[index].width * images[index].height)  # as zebra dedup
    position = {index: number for number, index in enumerate(order)}
    images, names = [images[index] for index in order], [names[index] for index in order]
    original_N = [position[original_N[index]] for index in order]
    pairs, milliseconds = find_with_zebra(images)
    row: dict[str, Any] = {
        "images": len(images),
        "crop_sides": [low, high],
        "zebra": score_pairs(pairs, original_N, names) | {"ms": milliseconds},
    }
    for distance, (pairs, seconds) in find_with_imagededup(images).items():
        scores = score_pairs(pairs, original_N, names)
        scores["recall"] = {key: value for key, value in scores["recall"].items() if " " not in key}
        row[f"imagededup {distance} bits"] = scores | {"ms": seconds}
    return row


def measure_decontamination(sources: dict[str, list[Image.Image]]) -> dict[str, Any]:
    """Return the share of planted evaluation images that are found, and that of other images."""
    rng = np.random.default_rng(1)
    evaluation = [image for images in sources.values() for image in images[::2]]
    clean = [image for images in sources.values() for image in images[1::2]]
    references = [compute_signature(view) for image in evaluation for view in (image, ImageOps.mirror(image))]
    index = CopyIndex(references)

    def find(image: Image.Image) -> bool:
        query = compute_signature(image)
        return any(
            is_copy(query, references[number], place, any_color=True) for _, number, place in index.find([query])
        )

    kinds: dict[str, Callable[[Image.Image], Image.Image]] = {
        "same": lambda image: SAME[rng.integers(len(SAME))](image),  # noqa: PLW0108  another one each time
        "crop to 0.7–0.9": lambda image: crop(image, rng, 0.7, 0.9),
        "mirrored": ImageOps.mirror,
        "gray": lambda image: image.convert("L").convert("RGB"),
        "mirrored, cropped": lambda image: crop(ImageOps.mirror(image), rng, 0.7, 0.9),
        "distort_image": lambda image: distort_image(image, max(image.size), rng),
    }
    found = {name: float(np.mean([find(distort(image)) for image in evaluation])) for name, distort in kinds.items()}
    planted = np.mean([value for name, value in found.items() if name != "distort_image"])
    return {
        "evaluation_images": len(evaluation),
        "clean_images": len(clean),
        "found": {name: round(value, 4) for name, value in found.items()},
        "found_without_distort_image": round(float(planted), 4),
        "false": round(float(np.mean([find(image) for image in clean])), 4),
    }


def measure_cost(num_images: int) -> dict[str, Any]:
    """Return the seconds to index and look up random hashes, and random features of all images."""
    rng = np.random.default_rng(2)
    hashes = rng.integers(0, 1 << 64, num_images, dtype=np.uint64)
    start = time.process_time()
    PerceptualHashIndex(hashes, 5, 256).find(hashes)
    row = {"images": num_images, "hash_seconds": round(time.process_time() - start, 2)}
    if num_images <= MAX_FEATURE_IMAGES:
        features = np.zeros(num_images * FEATURES_PER_IMAGE, FEATURE_DTYPE)
        features["word"] = rng.integers(0, 1 << WORD_BITS, len(features))
        features["x"], features["y"] = rng.uniform(0, 192, (2, len(features)))
        features["level"] = rng.integers(0, 7, len(features))
        parts = np.split(features, num_images)
        start = time.process_time()
        index = CopyIndex([Signature(int(value), part, b"") for value, part in zip(hashes, parts, strict=True)])
        row["feature_index_seconds"] = round(time.process_time() - start, 2)
        start = time.process_time()
        some = [Signature(int(value), part, b"") for value, part in zip(hashes[:640], parts[:640], strict=True)]
        for first in range(0, len(some), 64):
            index.find(some[first : first + 64])
        row["feature_search_ms_per_image"] = round(1000 * (time.process_time() - start) / len(some), 2)
    return row


def main() -> None:
    """Measure and print one row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--number", type=int, default=150, help="drawn animals; half as many textures and texts")
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    rng = np.random.default_rng(3)
    sources = {
        "animal": [generate_sample(0, "train", index)[0] for index in range(args.number)],
        "texture": [draw_texture(rng) for _ in range(args.number // 2)],
        "text": [draw_text(rng) for _ in range(args.number // 2)],
    }
    if args.photos:
        sources["photo"] = list(cut_tiles(args.photos))
    row = {
        "originals": {name: len(images) for name, images in sources.items()},
        "copies": measure_copies(sources, 0.7, 0.9),
        "small_crops": measure_copies(sources, 0.5, 0.7),
        "decontamination": measure_decontamination(sources),
        "cost": [measure_cost(number) for number in (10_000, 100_000, 1_000_000)],
    }
    if args.save:
        save_row("copies", row)
    else:
        print(row)


if __name__ == "__main__":
    main()
