"""Comparison of tiny image towers, ViT and modified ResNet, trained on the menagerie for the same time.

    python benchmarks/towers.py WORLD [--seconds 200] [--set name=value ...]

WORLD is a folder that `zebra menagerie` wrote. Each tower trains with its own learning rate for the number of steps
that this machine takes in the given seconds, as measured before. The curves go to results/towers.jsonl.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from receipt import save_row
from zebra.config.files import read_recipe
from zebra.config.presets import get_preset
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.workflows import train

TOWERS = {"tiny-resnet": 1.5e-3, "tiny-vit": 1e-3}


def config(world: Path, out: str, model: str, lr: float, steps: int) -> TrainConfig:
    """Return the demo's recipe with another tower, learning rate and number of steps."""
    eval_sets = [str(world / "evaluation" / name) for name in ("seen-kinds", "unseen-kinds")]
    raw = read_recipe("demo") | {"data": str(world / "train"), "out": out, "eval_sets": eval_sets}
    base = structure(TrainConfig, raw | {"steps": steps, "eval_every": max(1, steps // 12)})
    return replace(base, model=get_preset(model), lr=lr)


def main() -> None:
    """Train both towers and save their curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", type=Path)
    parser.add_argument("--seconds", type=float, default=200)
    args = parser.parse_args()
    for model, lr in TOWERS.items():
        with tempfile.TemporaryDirectory() as folder:
            probe = config(args.world, f"{folder}/probe", model, lr, 30)
            train.run(replace(probe, eval_sets=()))
            lines = [json.loads(line) for line in Path(folder, "probe/log.jsonl").read_text().splitlines()]
            rate = lines[-1]["samples_per_second"]
            steps = int(args.seconds * rate / probe.batch_size)
            start = time.perf_counter()
            train.run(config(args.world, f"{folder}/run", model, lr, steps))
            seconds = time.perf_counter() - start
            metrics = json.loads(Path(folder, "run/metrics.json").read_text())
            lines = [json.loads(line) for line in Path(folder, "run/log.jsonl").read_text().splitlines()]
            save_row(
                "towers",
                {
                    "tower": model,
                    "lr": lr,
                    "steps": steps,
                    "seconds_with_checks": round(seconds, 1),
                    "pairs_per_second": round(sum(j["samples_per_second"] for j in lines) / len(lines)),
                    "top1": {name: round(m["zero-shot"]["top1"]["value"], 4) for name, m in metrics.items()},
                    "curve": [
                        {"samples": j["samples"], "loss": round(j["loss"], 3)} | j["eval"] for j in lines if "eval" in j
                    ],
                },
            )


if __name__ == "__main__":
    main()
