"""The command `zebra bench [MODEL]`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from zebra.cli.arguments import ModelArg, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.cli.progress import ProgressBar
from zebra.config.bench import BenchConfig

DESCRIPTION = """Measure how fast a model is on this machine, in about a minute, as one page for an issue.

Images and texts per second in every precision, the share of the processor's limit that is reached, memory, and the
precision that `auto` takes; beside open_clip, transformers and onnxruntime with the same weights, if they are
installed. Without MODEL: ViT-B/32 with random weights, which needs no download.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(BenchConfig):
    """Arguments of `zebra bench`."""

    model: ModelArg = ""
    json: bool = False
    """Print one JSON document instead of text."""


def run(argv: Sequence[str]) -> int:
    """Measure and print the page."""
    args = parse_args(Args, "bench", argv, description=DESCRIPTION)
    from zebra.report.bench import format_bench_page
    from zebra.workflows import bench

    with ProgressBar("measuring") as progress:
        result = bench.run(args, callback=progress.update)
    echo(json.dumps(asdict(result), indent=1) if args.json else format_bench_page(result))
    return EXIT_OK
