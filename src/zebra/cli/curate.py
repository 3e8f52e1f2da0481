"""The command `zebra curate POOL --out SET`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from zebra.cli.arguments import RepeatedStr, parse_args
from zebra.cli.main import EXIT_OK, EXIT_USAGE, echo
from zebra.cli.progress import ProgressBar
from zebra.config.curate import CurateConfig
from zebra.config.files import list_recipes, read_recipe
from zebra.config.structure import structure
from zebra.data.ignored import format_ignored

if TYPE_CHECKING:
    from zebra.curate.look import RuleLook

DEFAULT_RECIPE = "archive"
DESCRIPTION = f"""Build a training set from a pool of captioned images; account for every pair.

POOL is anything that `zebra train` reads, or links to images: WAT, WARC and HTML files, and tables of URLs and
captions. Images of links are downloaded; --fetch.contact says to their servers who you are. SET gets tar shards, a
table of every pair with the reason that dropped it (decisions.parquet) and the counts by stage (account.json). Flags
override the recipe.

Further flags:
  --recipe NAME|FILE   {", ".join(list_recipes("curate"))}, or a YAML file (default: {DEFAULT_RECIPE})
"""

PoolArg = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POOL")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(CurateConfig):
    """Arguments of `zebra curate`."""

    pool: PoolArg
    recipe: Annotated[str, tyro.conf.Suppress] = DEFAULT_RECIPE
    removals: RepeatedStr = ()
    blocklist: RepeatedStr = ()
    columns: RepeatedStr = ()
    look: bool = False
    """Write nothing; show what each rule would drop from a sample of the pool, alone and in order, with examples."""


def run(argv: Sequence[str]) -> int:
    """Curate with progress on standard error and print the account."""
    parser = argparse.ArgumentParser(prog="zebra curate", add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", default=DEFAULT_RECIPE)
    flags, remaining = parser.parse_known_args(list(argv))
    settings = read_recipe(flags.recipe, "curate") | {"recipe": flags.recipe}
    default = structure(Args, settings | {"pool": "", "out": ""}, "recipe")
    args = parse_args(Args, "curate", remaining, description=DESCRIPTION, default=default)
    for name, value in (("POOL", args.pool), ("--out", args.out)):
        if not value and not (args.look and name == "--out"):
            echo(f"zebra curate: {name} is missing. See zebra curate --help.", err=True)
            return EXIT_USAGE
    from zebra.curate.write import format_account
    from zebra.workflows import curate

    if args.look:
        with ProgressBar("look") as progress:
            looks = curate.look(args, callback=progress.update)
        echo(format_looks(looks))
        return EXIT_OK
    with ProgressBar("curate") as progress:
        result = curate.run(args, callback=progress.update)
    if result.ignored:
        echo(f"{args.pool}: {format_ignored(result.ignored)}", err=True)
    if result.unused:
        parts = [f"{item.count:,} × {item.reason} ({item.example})" for item in result.unused]
        echo(f"{args.pool}: not used: {', '.join(parts)}", err=True)
    echo(format_account(result.counts, result.num_kept, result.num_images))
    for column, counts in result.caption_counts.items():
        if counts:
            echo(f"{column}: {', '.join(f'{count:,} {value}' for value, count in counts.items())}")
    echo(f"set: {result.out}")
    return EXIT_OK


def format_looks(looks: "Sequence[RuleLook]") -> str:
    """Return what each rule would drop as a table of text; rules that find nothing are left out."""
    num_pairs = max(1, looks[0].num_pairs) if looks else 1
    num_kept = num_pairs - sum(look.in_order for look in looks)
    lines = [f"{'stage':<12} {'alone':>7} {'in order':>8}  reason"]
    for look in looks:
        if look.alone:
            shares = f"{look.alone / num_pairs:>7.1%} {look.in_order / num_pairs:>8.1%}"
            examples = f": {', '.join(look.examples)}" if look.examples else ""
            lines.append(f"{look.stage:<12} {shares}  {look.reason}{examples}")
    return "\n".join([*lines, f"kept: {num_kept / num_pairs:.1%} of the {num_pairs:,} pairs in a sample of the pool"])
