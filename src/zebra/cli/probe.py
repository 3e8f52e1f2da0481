"""The command `zebra probe MODEL DATA --out CLASSIFIER`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from zebra.cli.arguments import DataArg, ModelArg, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.cli.progress import ProgressBar
from zebra.config.probe import ProbeConfig

if TYPE_CHECKING:
    from zebra.values import Score
    from zebra.workflows.probe import ProbeResult

NUM_CLASSES_SHOWN = 20
DESCRIPTION = """Learn a classifier from example images, for `zebra classify --classifier`.

DATA is a folder with a folder of images per class, or any labeled dataset that `zebra evaluate` reads. Probabilities
and the threshold of "none of these" are calibrated on held-out images.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ProbeConfig):
    """Arguments of `zebra probe`."""

    model: ModelArg
    data: DataArg
    json: bool = False
    """Print one JSON document instead of text."""


def run(argv: Sequence[str]) -> int:
    """Learn with progress on standard error, and print the accuracy."""
    args = parse_args(Args, "probe", argv, description=DESCRIPTION)
    from zebra.workflows import probe

    with ProgressBar("embedding") as progress:
        result = probe.run(args, callback=lambda done, total: progress.update(done, total, ""))
    if args.json:
        echo(json.dumps(asdict(result) | {"out": str(result.out)}, indent=1))
        return EXIT_OK
    for line in _format_result(result):
        echo(line)
    return EXIT_OK


def _format_result(result: "ProbeResult") -> Iterator[str]:
    num_images = sum(quality.num_images for quality in result.classes)
    yield f"{result.out}: {len(result.classes):,} classes from {num_images:,} images"
    yield f"accuracy on held-out images: {_format_score(result.accuracy)}"
    ranked = sorted(result.classes, key=lambda quality: 1.0 if quality.accuracy is None else quality.accuracy.value)
    for quality in ranked[:NUM_CLASSES_SHOWN]:
        accuracy = "one image, so unknown" if quality.accuracy is None else _format_score(quality.accuracy)
        yield f"  {quality.name:<24} {accuracy}"
    if len(ranked) > NUM_CLASSES_SHOWN:
        yield f"  … {len(ranked) - NUM_CLASSES_SHOWN:,} more with an accuracy as high or higher; --json lists all"
    calibration = result.calibration
    yield (
        f"none of these: a cosine below {calibration.threshold:.3f}, which accepts {calibration.accepted.value:.1%} of "
        f"held-out images; without their class, it rejects {_format_score(calibration.unknown_rejected)}"
    )
    yield (
        f"probabilities: mean error {calibration.error_after:.1%} after calibration, {calibration.error_before:.1%} "
        "before"
    )
    if result.skipped:
        reasons = ", ".join(f"{entry.count:,} {entry.reason} ({entry.example})" for entry in result.skipped)
        yield f"images skipped: {reasons}"
    yield from result.notes


def _format_score(score: "Score") -> str:
    return f"{score.value:.1%} [{score.low:.1%}, {score.high:.1%}] of {score.n:,}"
