"""Do the paper's laws show in a family of small models: robustness along a line, error falling with compute?

    python benchmarks/family.py WORLD [--widths 4 6 8 12 16] [--steps 1000] [--judge MODEL] [--out runs/family]

WORLD is a folder that `zebra menagerie` (or `zebra demo`) wrote. One modified ResNet for each width trains on the same
pairs for the same number of steps, with the demo's recipe; each is evaluated on the kinds it saw and on their shifts.
Then `zebra study` does the rest: effective robustness of MODEL (by default the widest of the family) over the line of
the others (Fig. 13), and error against the image tower's compute (Fig. 9). Members that are in --out already are not
trained again. The row goes to results/family.jsonl, the
figures to results/family_robustness.svg and results/family_scaling.svg.
"""

import argparse
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from receipt import RESULTS, keep
from zebra.config.evaluate import EvaluateConfig
from zebra.config.files import read_recipe
from zebra.config.presets import get_preset
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.models import CLIP
from zebra.workflows import evaluate, study, train

STANDARD, SHIFTS = "seen-kinds", ("sketch", "inverted", "noisy")


def config(world: Path, out: Path, width: int, steps: int) -> TrainConfig:
    """Take the demo's recipe with another width and length."""
    raw = read_recipe("demo") | {
        "data": str(world / "train"),
        "out": str(out),
        "steps": steps,
        "eval_sets": [],
    }
    base = structure(TrainConfig, raw)
    model = get_preset("tiny-resnet")
    return replace(base, model=replace(model, vision=replace(model.vision, width=width, heads=4)))


def gflop(told: TrainConfig) -> float:
    """Count the image tower's work for one picture, a multiplication with its addition as two."""
    tower, size = CLIP(told.model).visual.eval(), told.model.image_size
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        tower(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() / 1e9


def scores(world: Path, model: Path, out: Path) -> Path:
    """Evaluate one model on the standard set and its shifts."""
    sets = tuple(str(world / "evaluation" / name) for name in (STANDARD, *SHIFTS))
    evaluate.run(EvaluateConfig(model=str(model), datasets=sets, out=str(out), tasks=("zero-shot",)))
    return out


def main() -> None:
    """Train the family, study it, keep the row and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", type=Path)
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 6, 8, 12, 16])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--judge", type=Path, help="a model to be set against the family's line")
    parser.add_argument("--out", type=Path, default=Path("runs/family"))
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, compute = [], []
        for width in told.widths:
            out = told.out / f"train-{width}"
            trained = config(told.world, out, width, told.steps)
            train.run(trained)
            runs.append(scores(told.world, out / "model", Path(folder, f"width {width}")))
            compute.append(gflop(trained))
            print(
                width,
                compute[-1],
                {name: round(score.value, 3) for name, score in study.load_top1_scores(runs[-1]).items()},
            )
        judged = scores(told.world, told.judge, Path(folder, "judged")) if told.judge else runs[-1]
        references = runs if told.judge else runs[:-1]
        robust = study.study_robustness(references, STANDARD, [judged])
        scaled = study.study_scaling(runs, compute, "GFLOP per picture", [STANDARD])
        top1 = {
            run.name: {name: asdict(score) for name, score in study.load_top1_scores(run).items()}
            for run in (*runs, judged)
        }
    for name, figure in (("robustness", robust.sections[-1].body), ("scaling", scaled.sections[0].body)):
        figure.savefig(RESULTS / f"family_{name}.svg", metadata={"Date": None})
    measured = {
        group: {name: asdict(score) for name, score in named.items()}
        for group, named in (robust.scores | scaled.scores).items()
    }
    keep(
        "family",
        {"steps": told.steps, "gflop": dict(zip(told.widths, compute, strict=True)), "top1": top1} | measured,
    )


if __name__ == "__main__":
    main()
