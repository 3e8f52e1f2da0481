"""The command `zebra outliers STORE`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zebra.cli.arguments import KFlag, StoreArg, parse_args
from zebra.cli.main import EXIT_OK, echo, shorten_path
from zebra.cli.progress import ProgressBar
from zebra.config.outliers import OutliersConfig

if TYPE_CHECKING:
    from zebra.report.outliers import FoundImage
    from zebra.workflows.outliers import OutliersResult

DESCRIPTION = """Find images of a store that are unlike all others, or probable label errors.

The score of an image is its mean distance (1 - cosine) to its nearest images; near copies do not count. With --label,
images are listed whose neighbors have another label, by confident learning:
  zebra outliers store --page outliers.html
  zebra outliers store --label class -k 50
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(OutliersConfig):
    """Arguments of `zebra outliers`."""

    store: StoreArg
    k: KFlag = 20
    json: bool = False
    """Print one JSON document instead of text."""


def run(argv: Sequence[str]) -> int:
    """Find and print the images, the clearest cases first."""
    args = parse_args(Args, "outliers", argv, description=DESCRIPTION)
    from zebra.workflows import outliers

    with ProgressBar("outliers") as progress:
        result = outliers.run(args, callback=lambda done, total: progress.update(done, total, "comparing"))
    for reason, count in result.left_out.items():
        echo(f"zebra outliers: {count:,} images {reason} were not compared", err=True)
    if args.json:
        echo(json.dumps(_to_json(args, result), indent=1))
    else:
        for image in result.images:
            echo(_format_image(image))
        kind = "probable label errors" if args.label else "outliers"
        sample = "" if result.num_references == result.num_images else f" with a sample of {result.num_references:,}"
        echo(f"{result.num_found:,} {kind} among {result.num_images:,} images, compared{sample}", err=True)
    for label, target in (("table", args.out), ("page", args.page), ("column", args.column)):
        if target:
            echo(f"{label}: {target}", err=True)
    return EXIT_OK


def _to_json(args: Args, result: "OutliersResult") -> dict[str, object]:
    document: dict[str, object] = {
        "store": args.store,
        "images": result.num_images,
        "found": result.num_found,
        "references": result.num_references,
        "left_out": dict(result.left_out),
    }
    kind = ("label", "suggested") if args.label else ("is_outlier",)
    document["hits"] = [
        {"id": image.id, "path": image.path, "caption": image.caption, "score": round(image.score, 6)}
        | {name: getattr(image, name) for name in kind}
        for image in result.images
    ]
    return document


def _format_image(image: "FoundImage") -> str:
    label = f"{image.label} → {image.suggested}  " if image.suggested is not None else ""
    return f"{image.score:6.3f}  {label}{shorten_path(image.path)}  {image.caption or ''}".rstrip()
