"""Training of the arms of the curation experiment, one row of results per arm and seed."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from receipt import RESULTS, save_row
from zebra.config.data import DataConfig
from zebra.config.files import read_recipe
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.shard_writer import ShardWriter
from zebra.data.sources import Source, open_source
from zebra.errors import BadSample
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.workflows import train

STEPS, BATCH_SIZE = 1_200, 48
EVALUATION_SETS = ("seen-kinds", "unseen-kinds")
RESULTS_NAME = "curation"


def read_rows(experiment: str) -> list[dict[str, Any]]:
    """Return the rows of an experiment, those of interrupted sessions included."""
    path = RESULTS / f"{RESULTS_NAME}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [row for row in map(json.loads, lines) if row["experiment"] == experiment]


def train_arm(world: Path, experiment: str, arm: str, seed: int, *, steps: int = STEPS) -> None:
    """Train on the pairs of an arm, evaluate, and append a row; do nothing if the row exists."""
    if any((row["arm"], row["seed"], row["steps"]) == (arm, seed, steps) for row in read_rows(experiment)):
        return
    data, out = export_arm(world, arm), world / "runs" / f"{arm}-{seed}-{steps}"
    start = time.process_time()
    clip = train_model(data, out, seed, steps)
    cpu_seconds = time.process_time() - start
    correct = {
        name: evaluate_zero_shot(clip, read_classification(world / "menagerie" / "evaluation" / name)).ensemble.correct_N
        for name in EVALUATION_SETS
    }
    row = {
        "experiment": experiment,
        "arm": arm,
        "seed": seed,
        "steps": steps,
        "pairs": len(load_arm(world, arm)),
        "cpu_seconds": round(cpu_seconds),
        "top1": {name: round(float(correct_N.mean()), 4) for name, correct_N in correct.items()},
        "correct": {name: np.packbits(correct_N).tobytes().hex() for name, correct_N in correct.items()},
    }
    save_row(RESULTS_NAME, row)
    shutil.rmtree(out)


def train_model(data: Path, out: Path, seed: int, steps: int = STEPS) -> Bundle:
    """Train by the demo's recipe with one thread, in this process; return the model, also of an earlier run."""
    torch.set_num_threads(1)
    recipe = read_recipe("demo") | {
        "data": str(data),
        "out": str(out),
        "seed": seed,
        "steps": steps,
        "batch_size": BATCH_SIZE,
        "workers": 0,
        "val_fraction": 0.0,
        "checkpoint_every": 400,
        "keep_checkpoints": 1,
        "data_options": {"max_skip_rate": 1.0},
    }
    train.run(structure(TrainConfig, recipe, "recipe demo"))
    return load(out / "model")


def save_arm(world: Path, arm: str, position_N: NDArray[np.int64]) -> None:
    """Store the positions in the pool of the pairs of an arm."""
    (world / "arms").mkdir(exist_ok=True)
    np.save(world / "arms" / f"{arm}.npy", np.sort(position_N))


def load_arm(world: Path, arm: str) -> NDArray[np.int64]:
    """Return the positions in the pool of the pairs of an arm, sorted."""
    position_N: NDArray[np.int64] = np.load(world / "arms" / f"{arm}.npy")
    return position_N


def export_arm(world: Path, arm: str) -> Path:
    """Write the pairs of an arm as tar shards, unless they exist; return their folder."""
    folder = world / "arms" / arm
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        write_pairs(open_source(str(world / "pool"), DataConfig()), load_arm(world, arm), partial)
        partial.rename(folder)
    return folder


def write_pairs(source: Source, position_N: NDArray[np.int64], folder: Path) -> None:
    """Copy some samples of a source, with the first caption of each."""
    with ShardWriter(folder) as writer:
        for position in position_N.tolist():
            record = source.read(position)
            assert not isinstance(record, BadSample)
            writer.write(f"{position:09d}", {"jpg": record.image, "txt": record.captions[0].encode()})
