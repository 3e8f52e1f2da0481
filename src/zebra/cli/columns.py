"""The command `zebra columns STORE [TABLE]`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from zebra.cli.arguments import CommaSeparatedStrs, OptionalTableArg, StoreArg, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.config.columns import ColumnsConfig

if TYPE_CHECKING:
    from zebra.workflows.columns import ColumnsResult, JoinResult

DESCRIPTION = """List the columns of a store, join those of a table to its images, or remove some.

TABLE is a CSV, TSV, JSONL or Parquet file with a column id or path; paths are relative to the table or to the folder
that was embedded:
  zebra columns store ratings.csv --columns stars
  zebra columns store --drop stars
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ColumnsConfig):
    """Arguments of `zebra columns`."""

    store: StoreArg
    table: OptionalTableArg = ""
    columns: CommaSeparatedStrs = ()
    drop: CommaSeparatedStrs = ()
    json: bool = False
    """Print one JSON document instead of text."""


def run(argv: Sequence[str]) -> int:
    """Print the columns of a store, after joining or removing some."""
    args = parse_args(Args, "columns", argv, description=DESCRIPTION)
    from zebra.workflows import columns

    result = columns.run(args)
    if args.json:
        echo(json.dumps(asdict(result), indent=1))
        return EXIT_OK
    if result.join is not None:
        for line in _format_join(args, result.join, result.num_rows):
            echo(line, err=True)
    for line in _format_columns(result):
        echo(line)
    return EXIT_OK


def _format_join(args: Args, join: "JoinResult", num_rows: int) -> list[str]:
    names = ", ".join(join.columns)
    lines = [f"{args.store}: joined {names} by {join.on} to {join.num_matched:,} of {num_rows:,} images"]
    lines += [
        f"  not used: {count:,} × {reason}, first {join.examples[reason]}"
        for reason, count in join.unmatched.most_common()
    ]
    return lines


def _format_columns(result: "ColumnsResult") -> list[str]:
    width = max((len(column.name) for column in result.columns), default=0)
    return [
        f"{column.name:<{width}}  {column.type:<12}  {column.num_values:,} of {result.num_rows:,}"
        f"{'  joined' if column.is_joined else ''}"
        for column in result.columns
    ] or ["no columns besides zebra's own; zebra embed --columns and zebra columns STORE TABLE add some"]
