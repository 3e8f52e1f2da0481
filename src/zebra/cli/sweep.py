"""The command `zebra sweep RECIPE --over SETTING=VALUE,VALUE`."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from zebra.cli.main import EXIT_OK, EXIT_RESUMABLE, EXIT_USAGE, echo
from zebra.cli.progress import TrainingProgress
from zebra.cli.train import parse_recipe_flags, parse_train_config
from zebra.config.files import list_recipes
from zebra.config.sweep import Axis, SweepConfig

USAGE = (
    "usage: zebra sweep RECIPE --over SETTING=VALUE,VALUE [--over …] --data DATA --out DIR [--budget STEPS] [--json]"
)
DESCRIPTION = f"""{USAGE}

Train variants of a recipe by successive halving, and compare them.

Every combination of the values is a variant. All variants train for a part of a run. Then the half with the higher
validation scores goes on to twice the steps, until one has a complete run and a model. After Ctrl-C or a crash, the
same command continues.

  RECIPE               {", ".join(list_recipes())}, or a YAML file
  --over SETTING=V,V   values of a setting of `zebra train`, such as lr=1e-3,2e-3, batch_size=64,128,
                       optimizer.weight_decay=0.1,0.2, model=tiny-vit,tiny-resnet or schedule=cosine,constant-cooldown;
                       repeat the flag for further settings
  --budget STEPS       steps of all variants together; the length of a run follows. By default a complete run has the
                       recipe's steps, and the sweep takes two to three times as many.
  --json               print one JSON document instead of a table

All other flags are those of `zebra train`, for all variants. DIR gets runs/, sweep.json and report.html.
"""


def run(argv: Sequence[str]) -> int:
    """Train the variants with progress on standard error and print a table; return 75 if interrupted."""
    if any(arg in ("-h", "--help") for arg in argv):
        echo(DESCRIPTION)
        return EXIT_OK
    parser = argparse.ArgumentParser(prog="zebra sweep", usage=USAGE.removeprefix("usage: "), add_help=False)
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--over", action="append", default=[])
    parser.add_argument("--budget", type=int)
    parser.add_argument("--json", action="store_true")
    flags, remaining = parser.parse_known_args(list(argv))
    if unsupported := {"--recipe", "--resume", "--accept-changes"} & {arg.split("=")[0] for arg in remaining}:
        echo(f"zebra sweep: {min(unsupported)} is a flag of zebra train only. See zebra sweep --help.", err=True)
        return EXIT_USAGE
    base = parse_train_config(parse_recipe_flags(["--recipe", flags.recipe, *remaining]))
    config = SweepConfig(base=base, over=tuple(map(Axis.parse, flags.over)), budget=flags.budget)
    from zebra.workflows import sweep

    num_variants = len(config.variants)
    rungs, _ = sweep.plan(config, num_variants)
    stages = ", ".join(f"{rung.num_variants} to step {rung.steps:,}" for rung in rungs)
    echo(f"{num_variants} variants: {stages}", err=True)
    with TrainingProgress() as progress:

        def announce(variant: str, steps: int) -> None:
            progress.pairs_per_second = None  # the mean of the display starts anew
            echo(f"{variant}: to step {steps:,}", err=True)

        result = sweep.run(config, on_start=announce, callback=progress.show)
    if flags.json:
        echo(json.dumps([asdict(each) | {"run_dir": str(each.run_dir)} for each in result.variants], indent=1))
    else:
        echo(f"{'score':>7}  {'steps':>7}  variant")
        for each in result.variants:
            score = "–" if each.score is None else f"{each.score:.1%}"
            echo(f"{score:>7}  {each.steps:>7,}  {each.name}{'  (diverged)' if each.note else ''}")
    if not result.is_finished:
        echo("interrupted; run the same command again to continue.", err=True)
        return EXIT_RESUMABLE
    if not flags.json:
        echo(f"best: {result.best.name}; model: {result.best.run_dir}/model; curves: {result.report}")
    return EXIT_OK
