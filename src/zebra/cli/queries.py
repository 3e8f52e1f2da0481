"""The command `zebra queries SOURCE... --out FILE`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from zebra.cli.arguments import parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.cli.progress import ProgressBar
from zebra.config.queries import QueriesConfig

DESCRIPTION = """Build the list of entries by which `zebra curate` balances a set (CLIP §2.2, MetaCLIP).

A SOURCE is PATH or KIND:PATH; a folder stands for its files. Kinds:
  text      plain text, JSON lines, or tables of captions: frequent words and bigrams (.gz too)
  titles    hourly page views of Wikipedia (pageviews-*): titles with many views
  wordnet   WordNet's data.noun, index.noun, ...: names of synsets
  names     class names, one per line
  entries   an earlier list: Parquet of this command, or one entry per line
Without KIND, the names pageviews-*, data.noun etc. are recognized; all else is text.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(QueriesConfig):
    """Arguments of `zebra queries`."""

    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE...")]


def run(argv: Sequence[str]) -> int:
    """Build the list with progress on standard error and print where the entries are from."""
    args = parse_args(Args, "queries", argv, description=DESCRIPTION)
    from zebra.curate.queries.entry_list import format_sources
    from zebra.workflows import queries

    with ProgressBar("queries") as progress:
        result = queries.run(args, callback=progress.update)
    if result.skipped:
        reasons = ", ".join(f"{item.count:,} {item.reason} ({item.example})" for item in result.skipped)
        echo(f"skipped lines: {reasons}", err=True)
    echo(format_sources(result.source_counts))
    echo(f"{result.num_entries:,} entries: {result.out}")
    return EXIT_OK
