"""Optimizers and schedules on the menagerie and on emoji: accuracy at equal steps, and CPU seconds.

    python benchmarks/optimizers.py menagerie|emoji WORLD --steps 400 [--arms adamw constant muon] [--seeds 0 1]

WORLD is the folder that `zebra menagerie` or `benchmarks/emoji.py` wrote. Each run has the settings of the dataset's
recipe except for its length and the arm, decodes in its own process and appends a row to results/optimizers.jsonl.
Repeat with OMP_NUM_THREADS=1, so that CPU seconds do not depend on other work on the machine.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from receipt import RESULTS, save_row
from zebra.config.files import read_recipe
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.workflows import train

ARMS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "constant": {"schedule": "constant-cooldown"},
    "muon": {"optimizer": {"name": "muon"}},
}
DATASETS = {
    "menagerie": ("demo", "train", ("seen-kinds", "unseen-kinds")),
    "emoji": ("tiny", "train.csv", ("unseen-artist", "unseen-concepts")),
}
"""Dataset → recipe, path of the training data, evaluation sets."""


def train_arm(dataset: str, world: Path, arm: str, steps: int, seed: int) -> dict[str, Any]:
    """Train and evaluate one arm."""
    recipe_name, data, eval_sets = DATASETS[dataset]
    recipe = read_recipe(recipe_name)
    settings = ARMS[arm]
    recipe |= settings | {"optimizer": recipe.get("optimizer", {}) | settings.get("optimizer", {})}
    recipe |= {
        "data": str(world / data),
        "steps": steps,
        "seed": seed,
        "workers": 0,
        "val_fraction": 0.0,
        "eval_every": steps,
        "checkpoint_every": steps,
        "eval_sets": [str(world / "evaluation" / name) for name in eval_sets],
        "data_options": {"max_skip_rate": 1.0},
    }
    with tempfile.TemporaryDirectory() as out:
        start = time.process_time()
        train.run(structure(TrainConfig, recipe | {"out": out}, "recipe"))
        cpu_seconds = time.process_time() - start
        metrics = json.loads((Path(out) / "metrics.json").read_text(encoding="utf-8"))
        last = json.loads((Path(out) / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    scores = {name: metrics[name]["zero-shot"]["top1"] for name in metrics}
    row = {"dataset": dataset, "arm": arm, "steps": steps, "seed": seed, "batch_size": recipe["batch_size"]}
    row |= {name: [round(score[key], 4) for key in ("value", "low", "high")] for name, score in scores.items()}
    return row | {"loss": round(last["loss"], 4), "cpu_seconds": round(cpu_seconds)}


def main() -> None:
    """Train the arms that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=[*DATASETS])
    parser.add_argument("world", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--arms", nargs="+", default=[*ARMS], choices=[*ARMS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    path = RESULTS / "optimizers.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    done = {(row["dataset"], row["arm"], row["steps"], row["seed"]) for row in rows}
    for seed in args.seeds:
        for arm in args.arms:
            if (args.dataset, arm, args.steps, seed) not in done:
                save_row("optimizers", train_arm(args.dataset, args.world, arm, args.steps, seed))


if __name__ == "__main__":
    main()
