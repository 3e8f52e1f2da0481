"""`zebra classify MODEL IMAGE... --labels "horse,zebra"`: labels of each picture, best first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import PositionalStr, PositionalStrs, RepeatedStr, parse_args
from zebra.cli.main import EXIT_OK, EXIT_USAGE, echo


@dataclass(frozen=True, slots=True)
class Args:
    """What `zebra classify` is told."""

    model: PositionalStr
    """A model folder, for instance runs/demo/model."""
    images: PositionalStrs
    """Image files."""
    labels: str
    """Class names, separated by commas."""
    template: RepeatedStr = ()
    """A prompt with {} where the label goes; several are averaged (default: "a photo of a {}.")."""
    json: bool = False
    """Print one JSON document instead of lines."""


def run(argv: Sequence[str]) -> int:
    """Classify and print."""
    told = parse_args(Args, "classify", argv, description="Name what is in pictures, by labels in words.")
    if not told.images:
        echo("zebra classify: name at least one image file", err=True)
        return EXIT_USAGE
    from zebra.text.templates import DEFAULT_TEMPLATES
    from zebra.workflows import classify

    labels = [label.strip() for label in told.labels.split(",")]
    ranked = classify.run(told.model, told.images, labels, told.template or DEFAULT_TEMPLATES)
    if told.json:
        document = [
            {"image": image, "scores": [{"label": p.label, "score": p.score} for p in predictions]}
            for image, predictions in zip(told.images, ranked, strict=True)
        ]
        echo(json.dumps(document, indent=1))
        return EXIT_OK
    for image, predictions in zip(told.images, ranked, strict=True):
        echo(image)
        for prediction in predictions:
            echo(f"  {prediction.score:6.1%}  {prediction.label}")
    return EXIT_OK
