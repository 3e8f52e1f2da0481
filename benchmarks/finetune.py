"""What fine-tuning learns and what it forgets, by method.

    python benchmarks/finetune.py WORLD MODEL [--images 200] [--table TABLE] [--arms ARM ...] [--seed 0]

WORLD is a folder that `zebra menagerie` (or `zebra demo`) wrote, MODEL a model that was trained on it (`zebra demo`).
The model is fine-tuned on drawings of shapes, which it never saw, or on images of TABLE, such as the emoji of
examples/emoji. For each arm, a row goes to results/finetune.jsonl: the mean reciprocal rank of the captions of 500
further images among their distinct captions (what it learned), and zero-shot accuracy on seen-kinds (what it still
knows). The arms:

    default      the settings of `zebra train --from`
    unpreserved  without the term that keeps the vectors of synthetic images and random words
    former       without that term, at twice the learning rate: the settings of zebra before there was one, but without
                 early stopping, which ends this run after few steps with some seeds
    rehearsal    default, with `--rehearse` of the menagerie's training data
"""

import argparse
import csv
import math
import resource
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import zebra
from receipt import save_row
from zebra.config.data import DataConfig
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.sources import open_source
from zebra.evaluators.decoded_images import decode_and_resize
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.images.tensors import stack_pixels
from zebra.pretrained.bundle import Bundle
from zebra.train.finetune import suggest_settings
from zebra.workflows import train

SIDE = 96
COLORS = {
    "red": (214, 48, 49), "orange": (240, 140, 30), "yellow": (245, 215, 60), "green": (60, 160, 75),
    "blue": (55, 100, 210), "purple": (130, 70, 170), "pink": (240, 150, 190), "brown": (125, 80, 45),
}  # fmt: skip
BACKGROUNDS = {"white": (245, 245, 245), "black": (25, 25, 25), "gray": (140, 140, 140)}
SHAPES = {
    "triangle": (3, 1.0, 1.0), "square": (4, 1.0, 1.0), "diamond": (4, 1.0, 0.55), "pentagon": (5, 1.0, 1.0),
    "hexagon": (6, 1.0, 1.0), "circle": (60, 1.0, 1.0), "oval": (60, 1.0, 0.55), "cross": (4, 0.35, 1.0),
    "star": (5, 0.42, 1.0), "sun": (12, 0.5, 1.0),
}  # fmt: skip
"""Name → corners, radius of the corners between them, width / height."""
SIZES = {"tiny": 0.16, "medium": 0.27, "huge": 0.42}
"""Name → radius as a fraction of the side."""
NUM_NEW = 500
ARMS: dict[str, dict[str, Any]] = {
    "default": {},
    "unpreserved": {"finetune": {"preserve_weight": 0.0}},
    "former": {"finetune": {"preserve_weight": 0.0, "patience": 50}, "lr": 2e-4},
    "rehearsal": {"rehearse": "WORLD/train"},
}
"""Name → settings that differ from the suggested ones."""


def draw_shape(shape: str, color: str, background: str, size: str, rng: np.random.Generator) -> Image.Image:
    """Draw one shape at a random place, slightly turned, with noise."""
    canvas = 2 * SIDE
    image = Image.new("RGB", (canvas, canvas), BACKGROUNDS[background])
    corners, inner, width = SHAPES[shape]
    radius = SIZES[size] * canvas * rng.uniform(0.9, 1.1)
    margin = 0.9 * max(0.0, SIDE - radius)
    x, y = SIDE + rng.uniform(-margin, margin, 2)
    turn = rng.uniform(-0.2, 0.2) - math.pi / 2 + (math.pi / 4 if shape == "square" else 0)
    count = corners if inner == 1 else 2 * corners
    radii = [radius * (inner if corner % 2 and inner < 1 else 1) for corner in range(count)]
    angles = [turn + 2 * math.pi * corner / count for corner in range(count)]
    points = [
        (x + width * r * math.cos(angle), y + r * math.sin(angle)) for r, angle in zip(radii, angles, strict=True)
    ]
    ImageDraw.Draw(image).polygon(points, fill=COLORS[color])
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)) + rng.normal(0, 6, (SIDE, SIDE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_shapes(folder: Path, count: int, seed: int) -> Path:
    """Draw captioned shapes and return their table."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "caption"])
        for number in range(count):
            shape, color, background, size = (
                list(names)[int(rng.integers(len(names)))] for names in (SHAPES, COLORS, BACKGROUNDS, SIZES)
            )
            draw_shape(shape, color, background, size, rng).save(folder / f"{number}.png")
            rows.writerow([f"{number}.png", f"a {size} {color} {shape} on {background}"])
    return folder / "captions.csv"


def split_table(table: Path, folder: Path, num_train: int) -> None:
    """Write tables of random rows of a table: `num_train` to train on, and NUM_NEW others as new images."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if len(rows) < num_train + NUM_NEW:
        raise SystemExit(f"{table} has {len(rows):,} rows, fewer than --images {num_train:,} and {NUM_NEW} new ones")
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    parts = {"train": order[:num_train], "new": order[num_train : num_train + NUM_NEW]}
    for name, indices in parts.items():
        (folder / name).mkdir()
        with (folder / name / "captions.csv").open("w", newline="", encoding="utf-8") as file:
            paths = [(table.parent / rows[index]["filepath"]).resolve() for index in indices]
            captions = [rows[index]["caption"] for index in indices]
            csv.writer(file).writerows([("path", "caption"), *zip(paths, captions, strict=True)])


def rank_captions(clip: Bundle, table: Path) -> NDArray[np.int64]:
    """Return for each image the rank of its caption among the distinct captions of all images, from 1."""
    source = open_source(table, DataConfig())
    records = [source.read(index) for index in range(len(source))]
    captions = sorted({record.captions[0] for record in records})
    image_NE = clip.encode_pixels(stack_pixels([decode_and_resize(record, clip.preprocess) for record in records]))
    score_NM = (image_NE @ clip.encode_texts(captions).T).numpy()
    own_N = np.array([captions.index(record.captions[0]) for record in records])
    return np.asarray((score_NM > score_NM[np.arange(len(own_N)), own_N, None]).sum(axis=1) + 1)


def measure(clip: Bundle, new_table: Path, world: Path) -> dict[str, Any]:
    """Return what a model knows of the new images and of the earlier ones."""
    rank_N = rank_captions(clip, new_table)
    known = evaluate_zero_shot(clip, read_classification(world / "evaluation/seen-kinds")).ensemble.scores()["top1"]
    return {
        "new MRR": round(float((1 / rank_N).mean()), 4),
        "new top-1": round(float((rank_N == 1).mean()), 4),
        "new top-5": round(float((rank_N <= 5).mean()), 4),
        "seen-kinds top-1": round(known.value, 4),
    }


def fine_tune(arm: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fine-tune with the settings of an arm and return the row."""
    table = folder / "train/captions.csv"
    rehearse = str(args.world / "train") if "rehearse" in ARMS[arm] else None
    settings = suggest_settings(str(args.model), str(table), rehearse=rehearse)
    changes = {name: value for name, value in ARMS[arm].items() if name != "finetune"}
    changes = {
        name: str(value).replace("WORLD", str(args.world)) if name == "rehearse" else value
        for name, value in changes.items()
    }
    settings |= changes | {"finetune": settings["finetune"] | ARMS[arm].get("finetune", {})}
    settings |= {"data": str(table), "out": str(folder / arm), "workers": 0, "seed": args.seed}
    if args.epochs:
        settings |= {"epochs": args.epochs}
    start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    result = train.run(structure(TrainConfig, settings))
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - start
    assert result.before_after is not None
    row = {
        "arm": arm, "images": args.images, "table": args.table and args.table.name, "seed": args.seed,
        "epochs": settings["epochs"], "batch_size": settings["batch_size"], "lr": settings["lr"], "steps": result.steps,
        "selected step": result.before_after.selected_step, "alpha": result.before_after.alpha,
        "CPU seconds": round(seconds), "machine": "shared with other work; CPU time of one thread",
    }  # fmt: skip
    return row | measure(zebra.load(folder / arm / "model"), folder / "new/captions.csv", args.world)


def main() -> None:
    """Draw the images, fine-tune and save a row for each arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--table", type=Path, help="CSV with the columns filepath and caption, in place of drawings")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS))
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # repeated captions
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.table:
            split_table(args.table, folder, args.images)
        else:
            draw_shapes(folder / "train", args.images, seed=1)
            draw_shapes(folder / "new", NUM_NEW, seed=2)
        initial = measure(zebra.load(args.model), folder / "new/captions.csv", args.world)
        data = {"images": args.images, "table": args.table and args.table.name}
        save_row("finetune", {"arm": "initial model"} | data | initial)
        for arm in args.arms:
            save_row("finetune", fine_tune(arm, args, folder))


if __name__ == "__main__":
    main()
