"""The command `zebra curate POOL --out SET`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from zebra.cli.arguments import parse_args
from zebra.cli.main import EXIT_OK, EXIT_USAGE, echo
from zebra.cli.progress import ProgressBar
from zebra.config.curate import CurateConfig
from zebra.config.files import list_recipes, read_recipe
from zebra.config.structure import structure
from zebra.data.ignored import format_ignored

DEFAULT_RECIPE = "archive"
DESCRIPTION = f"""Build a training set from a pool of captioned images; account for every pair.

POOL is anything that `zebra train` reads. SET gets tar shards, a table of every pair with the reason that dropped it
(decisions.parquet) and the counts by stage (account.json). Flags override the recipe.

Further flags:
  --recipe NAME|FILE   {", ".join(list_recipes("curate"))}, or a YAML file (default: {DEFAULT_RECIPE})
"""

PoolArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POOL")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(CurateConfig):
    """Arguments of `zebra curate`."""

    pool: PoolArg
    recipe: Annotated[str, tyro.conf.Suppress] = DEFAULT_RECIPE


def run(argv: Sequence[str]) -> int:
    """Curate with progress on standard error and print the account."""
    parser = argparse.ArgumentParser(prog="zebra curate", add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", default=DEFAULT_RECIPE)
    flags, remaining = parser.parse_known_args(list(argv))
    settings = read_recipe(flags.recipe, "curate") | {"recipe": flags.recipe}
    default = structure(Args, settings | {"pool": "", "out": ""}, "recipe")
    args = parse_args(Args, "curate", remaining, description=DESCRIPTION, default=default)
    for name, value in (("POOL", args.pool), ("--out", args.out)):
        if not value:
            echo(f"zebra curate: {name} is missing. See zebra curate --help.", err=True)
            return EXIT_USAGE
    from zebra.curate.write import format_account
    from zebra.workflows import curate

    with ProgressBar("curate") as progress:
        result = curate.run(args, callback=progress.update)
    if result.ignored:
        echo(f"{args.pool}: {format_ignored(result.ignored)}", err=True)
    echo(format_account(result.counts, result.num_kept, result.num_images))
    echo(f"set: {result.out}")
    return EXIT_OK
