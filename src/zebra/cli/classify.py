"""The command `zebra classify MODEL IMAGE... --labels "horse,zebra"`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import CommaSeparatedStrs, ImageArgs, ModelArg, TemplateFlag, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.config.classify import ClassifyConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ClassifyConfig):
    """Arguments of `zebra classify`."""

    model: ModelArg
    images: ImageArgs
    labels: CommaSeparatedStrs
    """Class names, separated by commas."""
    templates: TemplateFlag = ()
    """Prompt with {} in place of the label. Repeat to average several prompts (default: "a photo of a {}.")."""
    json: bool = False
    """Print one JSON document instead of text."""


def run(argv: Sequence[str]) -> int:
    """Print the labels of every image with their scores, best first."""
    args = parse_args(Args, "classify", argv, description="Name what is in images: zero-shot classification.")
    from zebra.workflows import classify

    predictions = classify.run(args)
    if args.json:
        document = [
            {"image": image, "scores": [{"label": p.label, "score": p.score} for p in ranked]}
            for image, ranked in zip(args.images, predictions, strict=True)
        ]
        echo(json.dumps(document, indent=1))
        return EXIT_OK
    for image, ranked in zip(args.images, predictions, strict=True):
        echo(image)
        for prediction in ranked:
            echo(f"  {prediction.score:6.1%}  {prediction.label}")
    return EXIT_OK
