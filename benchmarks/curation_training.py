"""Training of the arms of the curation experiment, one row of results per arm and seed."""

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from receipt import RESULTS, save_row
from zebra.config.curate import CurateConfig
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
from zebra.train.metrics_logger import read_log
from zebra.workflows import train

RESULTS_NAME = "curation"


@dataclass(frozen=True, slots=True)
class Experiment:
    """A pool with its truth, and how models are trained on its arms; experiment.json in the folder of the world."""

    world: Path
    name: str
    config: TrainConfig
    """Settings of training; data, output and seed are those of a run."""
    evaluation_sets: tuple[Path, ...]
    curation: CurateConfig
    """Rules of `zebra curate`; pool and output are those of a run."""

    @classmethod
    def open(cls, world: Path, steps: int) -> "Experiment":
        """Read the experiment of a world."""
        document = json.loads((world / "experiment.json").read_text(encoding="utf-8"))
        recipe = read_recipe(document["recipe"]) | {
            "data": "",
            "out": "",
            "steps": steps,
            "workers": 0,
            "val_fraction": 0.0,
            "checkpoint_every": 400,
            "keep_checkpoints": 1,
            "data_options": {"max_skip_rate": 1.0},
        }
        sets = tuple(world / name for name in document["evaluation_sets"])
        rules = read_recipe("archive", "curate") | {"pool": "", "out": "", **document["curation"]}
        config, curation = structure(TrainConfig, recipe, "recipe"), structure(CurateConfig, rules, "curation")
        return cls(world, document["name"], config, sets, curation)

    def read_rows(self) -> list[dict[str, Any]]:
        """Return the rows of all runs with the same number of steps."""
        path = RESULTS / f"{RESULTS_NAME}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        key = (self.name, self.config.steps)
        return [row for row in map(json.loads, lines) if (row["experiment"], row["steps"]) == key]

    def train_arm(self, arm: str, seed: int) -> None:
        """Train on the pairs of an arm, evaluate, and append a row; do nothing if the row exists."""
        if any((row["arm"], row["seed"]) == (arm, seed) for row in self.read_rows()):
            return
        out = self.world / "runs" / f"{arm}-{seed}-{self.config.steps}"
        start = time.process_time()
        clip = self.train_model(export_arm(self.world, arm), out, seed, validate=True)
        cpu_seconds = time.process_time() - start
        correct = {
            path.name: evaluate_zero_shot(clip, read_classification(path)).ensemble.correct_N
            for path in self.evaluation_sets
        }
        row = {
            "experiment": self.name,
            "arm": arm,
            "seed": seed,
            "steps": self.config.steps,
            "batch_size": self.config.batch_size,
            "pairs": len(load_arm(self.world, arm)),
            "cpu_seconds": round(cpu_seconds),
            "top1": {name: round(float(correct_N.mean()), 4) for name, correct_N in correct.items()},
            "images": {name: len(correct_N) for name, correct_N in correct.items()},
            "curve": [
                {"step": line["step"], **line["eval"]} for line in read_log(out / "log.jsonl") if line.get("eval")
            ],
            "correct": {name: np.packbits(correct_N).tobytes().hex() for name, correct_N in correct.items()},
        }
        save_row(RESULTS_NAME, row)
        shutil.rmtree(out)

    def train_model(self, data: Path, out: Path, seed: int, *, validate: bool = False) -> Bundle:
        """Train with one thread in this process; return the model, also of an earlier run."""
        torch.set_num_threads(1)
        sets = tuple(str(path) for path in self.evaluation_sets) if validate else ()
        train.run(replace(self.config, data=str(data), out=str(out), seed=seed, eval_sets=sets, eval_every=200))
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
