"""Robustness and scaling studies of a family of small models (CLIP Fig. 9 and 13).

    python benchmarks/family.py WORLD [--widths 4 6 8 12 16] [--steps 1000] [--model MODEL] [--out runs/family]

WORLD is a folder that `zebra menagerie` (or `zebra demo`) wrote. One modified ResNet for each width trains on the same
pairs for the same number of steps with the demo's recipe. Each is evaluated on the classes of training and on shifted
versions of them. Then `zebra study` computes the effective robustness of MODEL (default: the widest model) relative to
the line of the others, and error against the compute of the image tower. Models that are already in --out are not
trained again. The row goes to results/family.jsonl, the figures to results/family_robustness.svg and
results/family_scaling.svg.
"""

import argparse
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from receipt import RESULTS, save_row
from zebra.config.evaluate import EvaluateConfig
from zebra.config.files import read_recipe
from zebra.config.presets import get_preset
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.models import CLIP
from zebra.studies.robustness import study_robustness
from zebra.studies.runs import load_top1_scores
from zebra.studies.scaling import study_scaling
from zebra.workflows import evaluate, train

REFERENCE_DATASET, SHIFTED_DATASETS = "seen-kinds", ("sketch", "inverted", "noisy")


def config(world: Path, out: Path, width: int, steps: int) -> TrainConfig:
    """Return the demo's recipe with another width and number of steps."""
    raw = read_recipe("demo") | {"data": str(world / "train"), "out": str(out), "steps": steps, "eval_sets": []}
    base = structure(TrainConfig, raw)
    model = get_preset("tiny-resnet")
    return replace(base, model=replace(model, vision=replace(model.vision, width=width, heads=4)))


def gflop(config: TrainConfig) -> float:
    """Return the GFLOP of the image tower for one image; a multiply-add is two operations."""
    tower, size = CLIP(config.model).visual.eval(), config.model.image_size
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        tower(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() / 1e9


def scores(world: Path, model: Path, out: Path) -> Path:
    """Evaluate one model on the reference dataset and the shifted ones."""
    datasets = tuple(str(world / "evaluation" / name) for name in (REFERENCE_DATASET, *SHIFTED_DATASETS))
    evaluate.run(EvaluateConfig(model=str(model), datasets=datasets, out=str(out), tasks=("zero-shot",)))
    return out


def main() -> None:
    """Train the models, run the studies, and save the row and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 6, 8, 12, 16])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--model", type=Path, help="a model to compare with the line of the family")
    parser.add_argument("--out", type=Path, default=Path("runs/family"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, compute = [], []
        for width in args.widths:
            out = args.out / f"train-{width}"
            train_config = config(args.world, out, width, args.steps)
            train.run(train_config)
            runs.append(scores(args.world, out / "model", Path(folder, f"width {width}")))
            compute.append(gflop(train_config))
            print(
                width, compute[-1], {name: round(score.value, 3) for name, score in load_top1_scores(runs[-1]).items()}
            )
        compared = scores(args.world, args.model, Path(folder, "compared")) if args.model else runs[-1]
        references = runs if args.model else runs[:-1]
        robustness = study_robustness(references, REFERENCE_DATASET, [compared])
        scaling = study_scaling(runs, compute, "GFLOP per image", [REFERENCE_DATASET])
        top1 = {
            run.name: {name: asdict(score) for name, score in load_top1_scores(run).items()}
            for run in (*runs, compared)
        }
    for name, figure in (("robustness", robustness.sections[-1].body), ("scaling", scaling.sections[0].body)):
        figure.savefig(RESULTS / f"family_{name}.svg", metadata={"Date": None})
    measured = {
        group: {name: asdict(score) for name, score in named.items()}
        for group, named in (robustness.scores | scaling.scores).items()
    }
    save_row(
        "family", {"steps": args.steps, "gflop": dict(zip(args.widths, compute, strict=True)), "top1": top1} | measured
    )


if __name__ == "__main__":
    main()
