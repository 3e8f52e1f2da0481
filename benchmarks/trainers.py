"""zebra's trainer against open_clip's: accuracy on the same pairs, by samples and by CPU seconds of one thread.

    pip install open_clip_torch==3.3.0 webdataset braceexpand pandas torchvision
    OMP_NUM_THREADS=1 python benchmarks/trainers.py WORLD --trainer zebra --settings zebra --epochs 10 --seeds 0 1
    python benchmarks/trainers.py --report

WORLD is a folder of benchmarks/emoji.py, or one of `zebra menagerie`, which is first unpacked to a table. Both trainers
get the same table, architecture, batch size, learning rate (those of the recipe `tiny`), warm-up, crops and number of
samples, in fp32 on one thread without loader processes, so that the CPU time of the process counts everything.
--settings names the rest: zebra (a vocabulary trained on the captions, Muon, clipping), adamw (the same with AdamW,
β₂ = 0.98, ε = 1e-6), or open_clip (its 49,408 tokens, AdamW with β₂ = 0.999 and ε = 1e-8 as for its ResNets, no
clipping). Either trainer runs with each.

open_clip's trainer is `open_clip_train.main` with its CSV loader. Its default learning rate of 5e-4 and its warm-up of
10,000 steps, which is longer than these runs, are not used. Evaluation is outside the measured time and the same for
both: names in the templates of the set, top-1 and top-5 among all names, and top-1 among the names that have an image.
Each run appends a row to results/trainers.jsonl, unless the row exists. --report prints the table and writes
results/trainers.svg.
"""

import argparse
import contextlib
import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from receipt import RESULTS, save_row
from trainers_open_clip import peer_vocabulary, train_with_open_clip
from trainers_report import print_table, write_plot
from trainers_runs import VARIANTS, LoadedBenchmark, RunSettings, score_ranks, train_with_zebra, zebra_config
from zebra.config.data import DataConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.sources import open_source

RECIPE = "tiny"
EVALUATION_SETS = ("unseen-artist", "unseen-concepts", "seen-kinds", "unseen-kinds", "zebra")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training pairs and evaluation sets."""

    name: str
    table: Path
    num_pairs: int
    evaluation: tuple[LoadedBenchmark, ...]

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Open a folder; unpack the shards of a menagerie."""
        is_menagerie = (folder / "menagerie.json").exists()
        table = folder / "train.csv"
        if is_menagerie and not table.exists():
            unpack_shards(folder)
        with table.open(encoding="utf-8", newline="") as file:
            num_pairs = sum(1 for _ in csv.DictReader(file))
        sets = (folder / "evaluation" / name for name in EVALUATION_SETS)
        evaluation = tuple(LoadedBenchmark.read(read_classification(path)) for path in sets if path.exists())
        return cls("menagerie" if is_menagerie else "emoji", table.absolute(), num_pairs, evaluation)


def unpack_shards(folder: Path) -> None:
    """Write the pairs of `folder`/train/*.tar as images and train.csv."""
    source = open_source(folder / "train", DataConfig())
    (folder / "unpacked").mkdir(exist_ok=True)
    rows = []
    for index in range(len(source)):
        record = source.read(index)
        path = Path("unpacked") / f"{index:06d}.jpg"
        (folder / path).write_bytes(record.image)
        rows.append({"filepath": str(path), "caption": record.captions[0]})
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def measure_run(world: Dataset, trainer: str, settings: str, epochs: int, seed: int) -> dict[str, Any]:
    """Train once and return the row."""
    batch_size = zebra_config(RunSettings("", settings, 0, 1, 600), RECIPE, "").batch_size
    run = RunSettings(str(world.table), settings, seed, epochs, epochs * (world.num_pairs // batch_size))
    config = zebra_config(run, RECIPE, peer_vocabulary())
    with contextlib.chdir(world.table.parent):  # open_clip opens the paths of the table as they are
        snapshots = (train_with_zebra if trainer == "zebra" else train_with_open_clip)(run, config)
    curve, correct = [], {}
    for snapshot in snapshots:
        ranks = {part.name: part.rank_labels(snapshot.encoder) for part in world.evaluation}
        point = {"samples": snapshot.step * batch_size, "cpu_seconds": round(snapshot.cpu_seconds, 1)}
        curve.append(point | {name: score_ranks(rank_by_classes) for name, rank_by_classes in ranks.items()})
        correct = {  # of the last point
            f"{name}, {classes}": np.packbits(rank_N < 1).tobytes().hex()
            for name, rank_by_classes in ranks.items()
            for classes, rank_N in rank_by_classes.items()
        }
    return {
        "world": world.name,
        "trainer": trainer,
        "settings": settings,
        "seed": seed,
        "epochs": epochs,
        "pairs": world.num_pairs,
        "batch_size": batch_size,
        "lr": config.lr,
        "threads": torch.get_num_threads(),
        "images": {part.name: len(part.images) for part in world.evaluation},
        "curve": curve,
        "correct": correct,
    }


def read_rows() -> list[dict[str, Any]]:
    """Return all rows."""
    path = RESULTS / "trainers.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def main() -> None:
    """Run what has no row yet, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path, nargs="?")
    parser.add_argument("--trainer", choices=("zebra", "open_clip"), default="zebra")
    parser.add_argument("--settings", choices=VARIANTS, default="zebra")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    if args.report:
        print_table(read_rows())
        write_plot(read_rows(), RESULTS / "trainers.svg")
        return
    torch.set_num_threads(1)
    world = Dataset.open(args.world)
    for seed in args.seeds:
        key = (world.name, args.trainer, args.settings, args.epochs, seed)
        names = ("world", "trainer", "settings", "epochs", "seed")
        if not any(tuple(row[name] for name in names) == key for row in read_rows()):
            save_row("trainers", measure_run(world, *key[1:]))


if __name__ == "__main__":
    main()
