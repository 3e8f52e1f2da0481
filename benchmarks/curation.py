"""Does curation raise accuracy at equal compute? The wild menagerie, eight arms, paired seeds.

    python benchmarks/wild_menagerie.py --out WORLD
    python benchmarks/curation.py WORLD [--arms A B C D E F F' G T] [--seeds 0 1 2 3 4] [--steps 1200]
    python benchmarks/curation.py WORLD --report PAGE

Every arm trains the demo's recipe with the same number of pairs seen; `curation_arms.py` says what each arm keeps.
Each run appends a row to results/curation.jsonl, and a run whose row exists is skipped, so the experiment can be
finished in several runs. The page shows the accuracies, and for each stage what it found.
"""

import argparse
from pathlib import Path

import numpy as np

from curation_arms import Truth, score_by_folds, score_by_trusted, select_aligned, select_balanced, select_by_rules
from curation_report import write_report
from curation_training import Experiment, load_arm, save_arm

ARMS = ("A", "G", "F", "E", "D", "C", "B", "T", "F'")


def select_arm(experiment: Experiment, arm: str, truth: Truth) -> None:
    """Make the selection of an arm, and of those that it needs, unless it exists."""
    world = experiment.world
    if (world / "arms" / f"{arm}.npy").exists():
        return
    if arm in ("A", "C", "D", "G"):
        select_by_rules(experiment, truth)
    elif arm in ("E", "T"):
        select_arm(experiment, "D", truth)
        scores = score_by_folds(experiment) if arm == "E" else score_by_trusted(experiment, truth)
        select_aligned(world, arm, scores, truth)
    elif arm in ("F", "F'"):
        select_arm(experiment, "E", truth)
        select_balanced(experiment, "F'", "E with leaks")
        balanced = load_arm(world, "F'")
        save_arm(world, "F", balanced[~truth.is_leak(balanced)])
    else:
        assert arm == "B"
        select_arm(experiment, "F", truth)
        rng = np.random.default_rng(0)
        save_arm(world, "B", rng.choice(load_arm(world, "A"), len(load_arm(world, "F")), replace=False))


def main() -> None:
    """Select and train the arms that have no row yet, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=1_200)
    parser.add_argument("--report", type=Path)
    args = parser.parse_args()
    experiment, truth = Experiment.open(args.world, args.steps), Truth(args.world)
    if args.report:
        write_report(experiment, truth, args.report)
        return
    for seed in args.seeds:
        for arm in args.arms:
            select_arm(experiment, arm, truth)
            experiment.train_arm(arm, seed)


if __name__ == "__main__":
    main()
