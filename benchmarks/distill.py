"""Students with and without a teacher on the menagerie, on one thread.

    zebra menagerie WORLD
    zebra demo --out DEMO                                                # its model is the teacher
    zebra embed DEMO/model WORLD/train --out STORE --captions
    python benchmarks/distill.py WORLD STORE [--arms NAME ...] [--steps 1167] [--seeds 0]

Every arm trains with the recipe of the demo, a third of its steps by default, and is evaluated on kinds that it saw and
on kinds that it never saw. The CPU seconds are those of training alone, validation excluded; the teacher's own
training and the embedding of the data are not in them. A row per arm and seed goes to results/distill.jsonl.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from receipt import save_row
from zebra.config.files import read_recipe
from zebra.config.image_towers import ResNetConfig
from zebra.config.model import ModelConfig
from zebra.config.objective import ObjectiveConfig
from zebra.config.presets import get_preset
from zebra.config.structure import structure
from zebra.config.text_towers import TextConfig
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.pretrained.load import load
from zebra.workflows import train

DATASETS = ("seen-kinds", "unseen-kinds")
DEMO_MODEL = get_preset("tiny-resnet")
SMALL_MODEL = ModelConfig(
    embed_dim=128,
    image_size=64,
    vision=ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4),
    text=TextConfig(width=64, layers=1, heads=1, vocab_size=2048, context_length=32),
)
"""About a quarter of the parameters of the demo's model."""
WEIGHTS: dict[str, tuple[float, float] | None] = {
    "no teacher": None,
    "feature": (10.0, 0.0),
    "affinity": (0.0, 1.0),
    "feature and affinity": (10.0, 1.0),
}
"""Weights of the feature loss and of the affinity loss."""
ARMS = {
    **{name: (DEMO_MODEL, weights) for name, weights in WEIGHTS.items()},
    **{f"small, {name}": (SMALL_MODEL, weights) for name, weights in WEIGHTS.items()},
}


def train_arm(arm: str, world: Path, store: Path, steps: int, seed: int) -> dict[str, Any]:
    """Train and evaluate one student; return its row."""
    model, weights = ARMS[arm]
    objective = ObjectiveConfig()
    if weights is not None:
        objective = ObjectiveConfig(
            teacher=str(store), teacher_feature_weight=weights[0], teacher_affinity_weight=weights[1]
        )
    with tempfile.TemporaryDirectory() as out:
        raw = read_recipe("demo") | {"data": str(world / "train"), "out": out, "seed": seed, "steps": steps}
        config = structure(TrainConfig, raw | {"workers": 0, "val_fraction": 0.0, "checkpoint_every": steps}, "demo")
        start = time.process_time()
        train.run(replace(config, model=model, objective=objective))
        cpu_seconds = time.process_time() - start
        clip = load(Path(out) / "model", precision="fp32")
        scores = {
            name: evaluate_zero_shot(clip, read_classification(world / "evaluation" / name)).ensemble.scores()["top1"]
            for name in DATASETS
        }
    return {
        "arm": arm,
        "seed": seed,
        "steps": steps,
        "batch_size": config.batch_size,
        "parameters": clip.num_parameters,
        "cpu_seconds": round(cpu_seconds),
        "top1": {name: round(score.value, 4) for name, score in scores.items()},
        "images": {name: score.n for name, score in scores.items()},
    }


def main() -> None:
    """Train the arms and save their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--steps", type=int, default=1167)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in args.seeds:
        for arm in args.arms:
            save_row("distill", train_arm(arm, args.world, args.store, args.steps, seed) | {"machine": "shared"})


if __name__ == "__main__":
    main()
