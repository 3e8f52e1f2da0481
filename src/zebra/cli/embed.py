"""The command `zebra embed MODEL DATA --out STORE`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from zebra.cli.arguments import CommaSeparatedStrs, DataArg, ModelArg, parse_args
from zebra.cli.main import EXIT_OK, EXIT_RESUMABLE, echo
from zebra.cli.progress import EmbedProgress
from zebra.config.embed import EmbedConfig
from zebra.data.ignored import format_ignored
from zebra.errors import DeviceLost

if TYPE_CHECKING:
    from zebra.workflows.embed import EmbedResult

DESCRIPTION = """Embed images into a store of vectors, captions and thumbnails.

DATA is a folder of images, with or without .txt captions of the same name; a CSV, TSV, JSONL or Parquet table; tar
shards; or a Hugging Face dataset on disk. A second run embeds only new and changed images. After an interruption, run
the same command again to continue.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(EmbedConfig):
    """Arguments of `zebra embed`."""

    model: ModelArg
    data: DataArg
    columns: CommaSeparatedStrs = ()
    json: bool = False
    """Print one JSON document instead of text."""


def run(argv: Sequence[str]) -> int:
    """Embed with progress on standard error; return 75 if interrupted, or if the device stopped working."""
    args = parse_args(Args, "embed", argv, description=DESCRIPTION)
    from zebra.workflows import embed

    try:
        with EmbedProgress() as progress:
            result = embed.run(args, callback=progress.show)
    except DeviceLost as error:
        echo(f"zebra embed: {error}. The images before are in {args.out}: the same command continues.", err=True)
        return EXIT_RESUMABLE
    if args.json:
        echo(json.dumps(asdict(result) | {"out": str(result.out)}, indent=1))
    else:
        for line in _format_result(result):
            echo(line)
    if not result.finished:
        echo("zebra embed: interrupted. Run the same command again to continue.", err=True)
        return EXIT_RESUMABLE
    return EXIT_OK


def _format_result(result: "EmbedResult") -> list[str]:
    rate = f" in {result.seconds:.1f} s, {result.images_per_second:.1f}/s" if result.embedded else ""
    lines = [f"{result.out}: {result.num_rows:,} images; {result.embedded:,} embedded ({result.precision}){rate}"]
    if result.columns:
        lines.append(f"  columns for filters: {', '.join(result.columns)}")
    if result.unchanged:
        lines.append(f"  {result.unchanged:,} unchanged since the last run")
    if result.reused:
        lines.append(f"  {result.reused:,} with the vector of an identical file")
    if result.captions:
        lines.append(f"  {result.captions:,} captions embedded")
    if result.skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in result.skipped.items())
        lines.append(f"  {sum(result.skipped.values()):,} skipped: {reasons}; see {result.out}/skipped.jsonl")
    if result.ignored:
        lines.append(f"  {format_ignored(result.ignored)}")
    if result.pruned:
        lines.append(f"  {result.pruned:,} no longer in the data, deleted")
    elif result.stale:
        lines.append(f"  {result.stale:,} no longer in the data, kept; --prune deletes them")
    return lines
