"""`zebra embed MODEL DATA --out STORE`: pictures with their vectors, captions and thumbnails into a store."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from zebra.cli.arguments import PositionalStr, parse_args
from zebra.cli.main import EXIT_OK, EXIT_RESUMABLE, echo
from zebra.cli.progress import ProgressBar
from zebra.config.data import DataConfig
from zebra.config.embed import EmbedConfig

if TYPE_CHECKING:
    from zebra.embed.pipeline import Progress
    from zebra.workflows.embed import EmbedResult

DESCRIPTION = """Embed pictures, and keep their vectors, captions and thumbnails in a store.

DATA is a folder of images, with same-name .txt captions or without; a CSV/TSV/JSONL/Parquet table; tar shards; or a
data set that Hugging Face has saved. Run again, it embeds what is new or has changed; stopped or killed, it goes on.
"""


@dataclass(frozen=True, slots=True)
class Args:
    """What `zebra embed` is told."""

    model: PositionalStr
    """A model of any layout, for instance runs/demo/model."""
    data: PositionalStr
    """Pictures of any layout."""
    out: str
    """The store: made if it is not there, else added to."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """auto takes the fastest here whose vectors keep a cosine of 0.999 to those of fp32."""
    fast_decode: bool = False
    """Decode large JPEGs at half, a quarter or an eighth of their size; vectors differ a little."""
    batch_size: int = 32
    """Pictures that a worker embeds together."""
    workers: int | None = None
    """Threads, or actors of Ray, that read, decode and embed; by default one for each processor core."""
    engine: Literal["threads", "ray"] = "threads"
    """ray spreads the work over a cluster, and commits everything at the end; needs zebra-clip[ray]."""
    vectors: Literal["float16", "float32"] | None = None
    """How a new store keeps vectors: float16 by default."""
    thumbnails: int = 96
    """Longer side of the small JPEG kept of each picture, in pixels; 0 keeps none."""
    columns: str = ""
    """Further columns of a table for a new store to take over, separated by commas."""
    prune: bool = False
    """Delete the rows of pictures that are no longer in DATA."""
    data_options: DataConfig = field(
        default_factory=lambda: EmbedConfig(model="", data="", out="").data_options
    )
    """How samples are read."""
    json: bool = False
    """Print one JSON document instead of lines."""


def run(argv: Sequence[str]) -> int:
    """Embed, show progress on standard error, and return the exit code."""
    told = parse_args(Args, "embed", argv, description=DESCRIPTION)
    settings = {name: getattr(told, name) for name in Args.__slots__ if name not in ("columns", "json")}
    columns = tuple(name.strip() for name in told.columns.split(",") if name.strip())
    from zebra.workflows import embed

    with EmbedProgress() as display:
        result = embed.run(EmbedConfig(**settings, columns=columns), callback=display.show)
    if told.json:
        echo(json.dumps(asdict(result) | {"out": str(result.out)}, indent=1))
    else:
        for line in _format_result(result):
            echo(line)
    if not result.finished:
        echo("stopped; the same command goes on from there", err=True)
        return EXIT_RESUMABLE
    return EXIT_OK


class EmbedProgress(ProgressBar):
    """A bar with images/s, the time left, and what was left out."""

    def __init__(self) -> None:
        super().__init__("embedding")
        self._start_seconds = time.monotonic()
        self._num_done_before: int | None = None

    def show(self, progress: "Progress") -> None:
        """Show how far it is."""
        if self._num_done_before is None:
            self._start_seconds, self._num_done_before = time.monotonic(), progress.done
        seconds = time.monotonic() - self._start_seconds
        figures = f"{(progress.done - self._num_done_before) / seconds:.1f} images/s" if seconds else ""
        skipped = " · ".join(f"{count} {reason}" for reason, count in progress.skipped.most_common(2))
        self.update(progress.done, progress.total, f"{figures} · {skipped}" if skipped else figures)


def _format_result(result: "EmbedResult") -> list[str]:
    rate = f" in {result.seconds:.1f} s, {result.images_per_second:.1f}/s" if result.embedded else ""
    said = [
        f"{result.out}: {result.num_rows:,} pictures; {result.embedded:,} embedded ({result.precision}){rate}"
    ]
    if result.unchanged:
        said.append(f"  {result.unchanged:,} were there already, unchanged")
    if result.reused:
        said.append(f"  {result.reused:,} took over the vector of equal bytes")
    if result.skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in result.skipped.items())
        said.append(f"  {sum(result.skipped.values()):,} left out: {reasons}; see {result.out}/skipped.jsonl")
    if result.pruned:
        said.append(f"  {result.pruned:,} no longer in the data, deleted")
    elif result.stale:
        said.append(f"  {result.stale:,} no longer in the data, kept; --prune deletes them")
    return said
