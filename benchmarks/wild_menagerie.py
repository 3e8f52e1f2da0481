"""The wild menagerie: a pool of image-text pairs with the faults of the web, and the truth about each pair.

    python benchmarks/wild_menagerie.py --out WORLD [--pairs 120000] [--seed 0]

WORLD/pool/ gets tar shards like those of a crawl, WORLD/menagerie/ the evaluation datasets, WORLD/truth.parquet one row
per pair, and WORLD/experiment.json what benchmarks/curation.py trains. Nothing but the evaluation of the rules reads
the truth. Every image and caption is a function of the seed and its position in the pool.
"""

import argparse
import io
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from zebra.data.shard_writer import ShardWriter
from zebra.images.distort import distort_image
from zebra.menagerie.attributes import ImageAttributes, sample_training_attributes
from zebra.menagerie.captions import write_caption
from zebra.menagerie.datasets import DRAWN_DATASETS
from zebra.menagerie.drawing import SIGN_COLORS, SIGN_TEXT_COLORS, draw_image, load_font
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.sample import generate_sample
from zebra.menagerie.scenes import CANVAS_SIZE, SCENES, draw_background
from zebra.menagerie.splits import SEEN_KINDS, TRAIN_FONTS
from zebra.menagerie.write import TRAIN_JPEG_QUALITY, write_menagerie

CLEAN, WRONG_CAPTION, BOILERPLATE, OTHER_LANGUAGE = "clean", "wrong caption", "boilerplate", "other language"
EXACT_COPY, NEAR_COPY = "exact copy", "near copy"
TINY, THIN, ONE_COLOR, PLACEHOLDER = "tiny image", "thin image", "one color", "placeholder"
CAPTION_ON_SIGN, EVALUATION_IMAGE = "caption on a sign", "evaluation image"
SHARES = {
    CLEAN: 0.4,
    WRONG_CAPTION: 0.2,
    BOILERPLATE: 0.12,
    EXACT_COPY: 0.06,
    NEAR_COPY: 0.09,
    OTHER_LANGUAGE: 0.05,
    TINY: 0.0125,
    THIN: 0.0125,
    ONE_COLOR: 0.0125,
    PLACEHOLDER: 0.0125,
    CAPTION_ON_SIGN: 0.02,
    EVALUATION_IMAGE: 0.01,
}
"""Noise → its share of the pool."""
COPIES_PER_ORIGINAL = 6
"""Mean number of further occurrences of a clean image that occurs more than once."""
NUM_BOILERPLATE = 300
"""Distinct captions of boilerplate."""
EVALUATION_SETS = ("seen-kinds", "unseen-kinds")
"""Datasets whose images leak into the pool, with a true caption."""
COPY_SIDES = (64, 96, 128)
"""Sides of near copies in pixels; originals have 96."""
CURATION = {
    "text": {"min_words": 2, "max_frequency": 10},  # captions of over 10 pairs, as in ALIGN and COYO
    "language": {"keep": ["en"]},
    "image": {"min_side": 64, "max_aspect_ratio": 3},  # the side of the model's input; DataComp's aspect ratio
    "balance": {"entries": str(Path(__file__).parent / "wild_entries.txt")},
}
"""Rules that a user would choose without the truth."""
TRUTH_SCHEMA = pa.schema(
    {
        "key": pa.string(),  # name of the sample in the pool
        "noise": pa.string(),  # one of SHARES
        "original": pa.string(),  # key of the pair whose image this is; the pair's own key unless it is a copy
        "animal": pa.string(),  # in the image; empty for signs with numbers
        "coat": pa.string(),
        "caption": pa.string(),
    }
)


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The noise of N pairs, and the position of the pair whose image each shows; originals precede their copies."""

    noise_N: NDArray[np.str_]
    original_N: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WildPair:
    """One pair of the pool and the truth about it."""

    image: bytes
    caption: str
    attributes: ImageAttributes


def plan_pool(num_pairs: int, seed: int, shares: dict[str, float] = SHARES) -> PoolPlan:
    """Assign noise to positions, and originals to copies."""
    rng = np.random.default_rng([seed, 1])
    edge = np.rint(np.cumsum([0.0, *shares.values()]) * num_pairs).astype(np.int64)
    noise_N = rng.permutation(np.repeat(list(shares), np.diff(edge)))
    original_N = np.arange(num_pairs)
    (copy_C,) = np.nonzero((noise_N == EXACT_COPY) | (noise_N == NEAR_COPY))
    (clean_K,) = np.nonzero(noise_N == CLEAN)
    popular_P = rng.choice(clean_K, max(1, len(copy_C) // COPIES_PER_ORIGINAL), replace=False)
    group_C = rng.integers(len(popular_P), size=len(copy_C))
    for group, original in enumerate(popular_P):
        positions = np.sort(np.append(copy_C[group_C == group], original))
        kinds = noise_N[positions]
        noise_N[positions] = [CLEAN, *kinds[kinds != CLEAN]]
        original_N[positions] = positions[0]
    return PoolPlan(noise_N, original_N)


def make_pair(plan: PoolPlan, position: int, seed: int) -> WildPair:
    """Draw and caption the pair at a position of the pool."""
    noise, rng = str(plan.noise_N[position]), SampleRng(seed, "wild-noise", position)
    if noise == EVALUATION_IMAGE:
        split = rng.choice(EVALUATION_SETS)
        index = int(rng.uniform(0, DRAWN_DATASETS[split].num_samples))
        image, caption, attributes, _ = generate_sample(seed, split, index)
        return WildPair(_encode(distort_image(image, rng.choice(COPY_SIDES), rng.generator)), caption, attributes)
    original = int(plan.original_N[position])
    image, attributes = _draw(original, seed)
    caption = _write_caption(attributes, original, seed)
    if noise == WRONG_CAPTION:
        caption = _write_wrong_caption(attributes, len(plan.noise_N), seed, rng)
    elif noise == BOILERPLATE:
        caption = rng.choice(list_boilerplate(seed))
    elif noise == OTHER_LANGUAGE:
        caption = _write_foreign_caption(attributes, rng)
    elif noise in (EXACT_COPY, NEAR_COPY) and rng.bernoulli(0.5):
        caption = _write_caption(attributes, position, seed)
    return WildPair(_encode(_spoil_image(image, noise, caption, rng)), caption, attributes)


def iter_truth(plan: PoolPlan, seed: int) -> Iterator[tuple[WildPair, dict[str, str]]]:
    """Yield every pair with its row of the truth."""
    for position, noise in enumerate(plan.noise_N):
        pair = make_pair(plan, position, seed)
        yield (
            pair,
            {
                "key": make_key(position),
                "noise": str(noise),
                "original": make_key(int(plan.original_N[position])),
                "animal": pair.attributes.animal,
                "coat": pair.attributes.coat,
                "caption": pair.caption,
            },
        )


def make_key(position: int) -> str:
    """Return the name of a pair in the pool."""
    return f"{position:09d}"


@cache
def list_boilerplate(seed: int) -> tuple[str, ...]:
    """Return the distinct captions of boilerplate: words, phrases, names of files, lists of keywords."""
    parts, rng = _load_captions()["boilerplate"], SampleRng(seed, "wild-boilerplate", 0)
    captions = dict.fromkeys([*parts["words"], *parts["phrases"]])
    while len(captions) < NUM_BOILERPLATE // 2:
        captions[f"{rng.choice(parts['name_prefixes'])}{int(rng.uniform(1, 9999)):04d}.jpg"] = None
    while len(captions) < NUM_BOILERPLATE:
        captions[", ".join(rng.permutation(parts["keywords"])[: rng.choice((3, 4, 5, 6, 7))])] = None
    return tuple(captions)


@cache
def list_zipf_kinds(seed: int) -> tuple[tuple[str, str], ...]:
    """Return the seen kinds in random order of rank, each as often as its rank's share by Zipf's law."""
    order = np.random.default_rng([seed, 2]).permutation(len(SEEN_KINDS))
    return tuple(SEEN_KINDS[kind] for rank, kind in enumerate(order, 1) for _ in range(round(1000 / rank)))


def _draw(index: int, seed: int) -> tuple[Image.Image, ImageAttributes]:
    rng = SampleRng(seed, "wild", index)
    attributes = sample_training_attributes(rng, list_zipf_kinds(seed))
    return draw_image(attributes, rng), attributes


def _write_caption(attributes: ImageAttributes, index: int, seed: int) -> str:
    return write_caption(attributes, SampleRng(seed, "wild-caption", index))


def _write_wrong_caption(attributes: ImageAttributes, num_pairs: int, seed: int, rng: SampleRng) -> str:
    """Return the caption of a random other image with another animal, coat or number."""
    while True:
        index = num_pairs + int(rng.uniform(0, 1e9))  # drawn for this caption only
        other = sample_training_attributes(SampleRng(seed, "wild", index), list_zipf_kinds(seed))
        if (other.animal, other.coat, other.digit) != (attributes.animal, attributes.coat, attributes.digit):
            return _write_caption(other, index, seed)


def _write_foreign_caption(attributes: ImageAttributes, rng: SampleRng) -> str:
    languages = _load_captions()["languages"]
    language = languages[rng.choice(tuple(languages))]
    if attributes.topic == "sign":
        return str(rng.choice(language["frames"]).format(animal=attributes.digit, coat="").strip())
    return str(
        rng.choice(language["frames"]).format(
            animal=language["animals"][attributes.animal], coat=language["coats"][attributes.coat]
        )
    )


def _spoil_image(image: Image.Image, noise: str, caption: str, rng: SampleRng) -> Image.Image:
    if noise == NEAR_COPY:
        return distort_image(image, rng.choice(COPY_SIDES), rng.generator)
    if noise == TINY:
        side = round(rng.uniform(8, 32))
        return image.resize((side, side), Image.Resampling.BOX)
    if noise == THIN:
        top = round(rng.uniform(0, image.height - image.width / 6))
        strip = image.crop((0, top, image.width, top + image.width // 6))
        return strip if rng.bernoulli(0.5) else strip.transpose(Image.Transpose.ROTATE_90)
    if noise == ONE_COLOR:
        return Image.new("RGB", image.size, tuple(int(rng.uniform(0, 256)) for _ in range(3)))
    if noise == PLACEHOLDER:
        return _draw_placeholder(*image.size)
    if noise == CAPTION_ON_SIGN:
        return _draw_caption_on_sign(caption, rng)
    return image


def _draw_placeholder(width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), (224, 224, 224))
    pen = ImageDraw.Draw(image)
    pen.multiline_text((width / 2, height / 2), "image not\navailable", (120, 120, 120), load_font(TRAIN_FONTS[0], 14),
                       "mm", align="center")  # fmt: skip
    return image


def _draw_caption_on_sign(caption: str, rng: SampleRng) -> Image.Image:
    canvas, _ = draw_background(rng.choice(tuple(SCENES)), rng)
    pen = ImageDraw.Draw(canvas)
    margin = round(rng.uniform(4, 20))
    pen.rounded_rectangle(
        [margin, margin, CANVAS_SIZE - margin, CANVAS_SIZE - margin], 10, rng.choice(SIGN_COLORS), (90, 70, 56), 4
    )
    size = 20
    lines = textwrap.wrap(caption, max(8, int((CANVAS_SIZE - 2 * margin - 16) / (0.62 * size))))
    font = load_font(rng.choice(TRAIN_FONTS), size if len(lines) < 7 else 15)
    pen.multiline_text(
        (CANVAS_SIZE / 2, CANVAS_SIZE / 2), "\n".join(lines), rng.choice(SIGN_TEXT_COLORS), font, "mm", align="center"
    )
    return canvas.reduce(2)


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=TRAIN_JPEG_QUALITY, subsampling="4:4:4")
    return buffer.getvalue()


@cache
def _load_captions() -> dict[str, Any]:
    text = (Path(__file__).parent / "wild_captions.yaml").read_text(encoding="utf-8")
    captions: dict[str, Any] = yaml.safe_load(text)
    return captions


def write_pool(out: Path, num_pairs: int, seed: int) -> None:
    """Write the evaluation datasets, the pool and, last, the truth."""
    write_menagerie(out / "menagerie", 100, seed, workers=1)
    plan, rows = plan_pool(num_pairs, seed), []
    with ShardWriter(out / "pool") as writer:
        for pair, row in iter_truth(plan, seed):
            writer.write(row["key"], {"jpg": pair.image, "txt": pair.caption.encode()})
            rows.append(row)
            if len(rows) % 5_000 == 0:
                print(f"{len(rows):,} of {num_pairs:,} pairs", flush=True)
    pq.write_table(pa.Table.from_pylist(rows, TRUTH_SCHEMA), out / "truth.parquet")
    sets = [f"menagerie/evaluation/{name}" for name in EVALUATION_SETS]
    write_experiment(out, "wild menagerie", "demo", sets, CURATION)


def write_experiment(
    out: Path, name: str, recipe: str, evaluation_sets: Sequence[str], curation: Mapping[str, object]
) -> None:
    """Write the settings of an experiment.

    Args:
        recipe: The recipe of `zebra train`.
        evaluation_sets: Folders of the evaluation datasets, relative to `out`.
        curation: Settings of `zebra curate` that override its default recipe.
    """
    document = {"name": name, "recipe": recipe, "evaluation_sets": list(evaluation_sets), "curation": curation}
    (out / "experiment.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Write the pool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=120_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write_pool(args.out, args.pairs, args.seed)


if __name__ == "__main__":
    main()
