"""The command `zebra embed MODEL DATA --out STORE`."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from zebra.cli.arguments import CommaSeparatedStrs, DataArg, ModelArg, parse_args
from zebra.cli.main import EXIT_OK, EXIT_RESUMABLE, echo
from zebra.cli.progress import ProgressBar
from zebra.config.embed import EmbedConfig
from zebra.data.ignored import format_ignored

if TYPE_CHECKING:
    from zebra.embed.pipeline import Progress
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
    """Embed with a progress bar on standard error; return 75 if interrupted."""
    args = parse_args(Args, "embed", argv, description=DESCRIPTION)
    from zebra.workflows import embed

    with EmbedProgress() as progress:
        result = embed.run(args, callback=progress.show)
    if args.json:
        echo(json.dumps(asdict(result) | {"out": str(result.out)}, indent=1))
    else:
        for line in _format_result(result):
            echo(line)
    if not result.finished:
        echo("zebra embed: interrupted. Run the same command again to continue.", err=True)
        return EXIT_RESUMABLE
    return EXIT_OK


class EmbedProgress(ProgressBar):
    """Progress bar with images per second, the remaining time and counts of skipped images."""

    def __init__(self) -> None:
        super().__init__("embedding")
        self._start_seconds = time.monotonic()
        self._num_done_before: int | None = None

    def show(self, progress: "Progress") -> None:
        """Update the bar; the callback of an embedding run."""
        if self._num_done_before is None:
            self._start_seconds, self._num_done_before = time.monotonic(), progress.done
        seconds = time.monotonic() - self._start_seconds
        rate = f"{(progress.done - self._num_done_before) / seconds:.1f} images/s" if seconds else ""
        skipped = " · ".join(f"{count} {reason}" for reason, count in progress.skipped.most_common(2))
        self.update(progress.done, progress.total, f"{rate} · {skipped}" if skipped else rate)


def _format_result(result: "EmbedResult") -> list[str]:
    rate = f" in {result.seconds:.1f} s, {result.images_per_second:.1f}/s" if result.embedded else ""
    lines = [f"{result.out}: {result.num_rows:,} images; {result.embedded:,} embedded ({result.precision}){rate}"]
    if result.unchanged:
        lines.append(f"  {result.unchanged:,} unchanged since the last run")
    if result.reused:
        lines.append(f"  {result.reused:,} with the vector of an identical file")
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
