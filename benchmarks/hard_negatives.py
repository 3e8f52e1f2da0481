"""Fine-tuning with and without hard negatives, on pairs of the menagerie whose wrong caption differs in one word.

    python benchmarks/hard_negatives.py MENAGERIE MODEL WORK --steps 150 [--pairs 3000] [--arms none column] [--seeds 0]

The arms: start (the model itself), none, column (wrong captions of a table column), similar (`--batching similar` by
the vectors of MODEL) and both. With --scratch, none and similar are trained from random weights instead, on all
shards with the recipe of `zebra demo`, which has 3500 steps.

MENAGERIE is the folder of `zebra menagerie`, MODEL the model of `zebra demo`. The pairs of the first shards whose
caption names a coat or a color become a table in WORK. Its column of wrong captions has one coat or color replaced by
another. 600 pairs of the last shard are the test: how often an image is closer to its caption than to the wrong one.
Rows go to results/hard_negatives.jsonl; CPU seconds of similar batches include the vectors. Repeat with
OMP_NUM_THREADS=1, so that CPU seconds do not depend on other work on the machine.
"""

import argparse
import csv
import re
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from receipt import save_row
from zebra.config.embed import EmbedConfig
from zebra.config.files import read_recipe
from zebra.config.structure import structure, unstructure
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.menagerie.coats import COATS, COLORS
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.workflows import embed, train

WORD_GROUPS = (COATS, tuple(COLORS), ("stripes", "spots", "checks", "patches"))
NUM_TEST_PAIRS = 600
ARMS = ("start", "none", "column", "similar", "both")


def wrong_caption(caption: str, rng: np.random.Generator) -> str | None:
    """Return the caption with one coat or color replaced by another; None if it names none."""
    places = [
        (match, group)
        for group in WORD_GROUPS
        for match in re.finditer(rf"(?<![\w-])({'|'.join(group)})(?![\w-])", caption)
    ]
    if not places:
        return None
    match, group = places[int(rng.integers(len(places)))]
    word = rng.choice([word for word in group if word not in caption])
    return caption[: match.start()] + str(word) + caption[match.end() :]


def write_table(shards: list[Path], folder: Path, num_pairs: int) -> Path:
    """Write pairs of the shards as images and a table with the columns path, caption and wrong."""
    table = folder / "table.csv"
    if table.exists():
        return table
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows: list[tuple[str, str, str]] = []
    for shard in shards:
        if len(rows) == num_pairs:
            break
        with tarfile.open(shard) as tar:
            texts = {Path(name).stem: name for name in tar.getnames() if name.endswith(".txt")}
            for stem, name in texts.items():
                caption = tar.extractfile(name).read().decode()
                wrong = wrong_caption(caption, rng)
                if wrong is not None and len(rows) < num_pairs:
                    (folder / f"{len(rows)}.jpg").write_bytes(tar.extractfile(f"{stem}.jpg").read())
                    rows.append((f"{len(rows)}.jpg", caption, wrong))
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "caption", "wrong"), *rows])
    return table


def accuracy(clip: Bundle, table: Path) -> float:
    """Return how often an image is closer to its caption than to the wrong one."""
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    image_NE = clip.encode_images([table.parent / row["path"] for row in rows])
    caption_NE, wrong_NE = (clip.encode_texts([row[name] for row in rows]) for name in ("caption", "wrong"))
    is_correct_N = (image_NE * caption_NE).sum(1) > (image_NE * wrong_NE).sum(1)
    return float(is_correct_N.float().mean())


def fine_tuning_settings(model: Path, lr: float) -> dict[str, Any]:
    """Return settings that keep nothing of the initial model but its weights."""
    architecture = unstructure(load(model).model.config)
    return {"model": architecture, "batch_size": 48, "lr": lr, "finetune": {"init_from": str(model)}}


def embed_images(model: Path, table: Path, store: Path) -> str:
    """Write the vectors of the images of a table to a new store."""
    shutil.rmtree(store, ignore_errors=True)
    embed.run(EmbedConfig(model=str(model), data=str(table), out=str(store), precision="fp32", thumbnail_size=0))
    return str(store)


def evaluate(clip: Bundle, menagerie: Path, test: Path) -> dict[str, float]:
    """Return the scores of a model."""
    scores = {"caption over wrong caption": accuracy(clip, test)}
    for name in ("fine-grained", "unseen-kinds"):
        benchmark = read_classification(menagerie / "evaluation" / name)
        scores[name] = evaluate_zero_shot(clip, benchmark).ensemble.scores()["top1"].value
    return {name: round(value, 4) for name, value in scores.items()}


def main() -> None:
    """Evaluate the initial model, fine-tune each arm and save a row of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("menagerie", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--scratch", action="store_true", help="train from random weights on all shards instead")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["start", "none", "column", "similar"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    if args.scratch and {"column", "both"} & set(args.arms):
        parser.error("shards have no column of wrong captions; with --scratch, the arms are start, none and similar")
    *shards, last = sorted((args.menagerie / "train").glob("*.tar"))
    table = None if args.scratch else write_table(shards, args.work / "train", args.pairs)
    test = write_table([last], args.work / "test", NUM_TEST_PAIRS)
    for seed in args.seeds:
        for arm in args.arms:
            out = args.work / f"{arm}-{seed}-{args.steps}{'-scratch' if args.scratch else ''}"
            start = time.process_time()
            if arm != "start":
                data = args.menagerie / "train" if args.scratch else table
                store = embed_images(args.model, data, args.work / "store") if arm in ("similar", "both") else None
                settings = read_recipe("demo") if args.scratch else fine_tuning_settings(args.model, args.lr)
                settings |= {"data": str(data), "out": str(out), "steps": args.steps, "seed": seed, "workers": 0}
                settings |= {"eval_every": max(1, args.steps // 4)}
                settings |= {"batching": "similar" if store else "random", "batching_store": store}
                settings |= {"data_options": {"negatives_column": "wrong" if arm in ("column", "both") else None}}
                train.run(structure(TrainConfig, settings))
            cpu_seconds = time.process_time() - start
            clip = load(args.model if arm == "start" else out / "model")
            row = {
                "arm": arm,
                "scratch": args.scratch,
                "steps": args.steps,
                "seed": seed,
                "pairs": args.pairs,
                "lr": args.lr,
            }
            save_row("hard_negatives", row | evaluate(clip, args.menagerie, test) | {"cpu_seconds": round(cpu_seconds)})


if __name__ == "__main__":
    main()
