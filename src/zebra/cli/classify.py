"""The command `zebra classify MODEL IMAGE... --labels "horse,zebra"`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from zebra.cli.arguments import ImageArgs, ModelArg, TemplateFlag, list_flag, parse_args, split_commas
from zebra.cli.main import EXIT_OK, echo
from zebra.config.classify import ClassifyConfig


def parse_labels(text: str) -> tuple[str, ...]:
    """Return the names in a list separated by commas, or with @PATH in a file of one name per line."""
    if not text.startswith("@"):
        return tuple(split_commas(text))
    from zebra.text.labels import read_labels

    return tuple(read_labels(Path(text[1:])))


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ClassifyConfig):
    """Arguments of `zebra classify`."""

    model: ModelArg
    images: ImageArgs
    labels: Annotated[tuple[str, ...], list_flag(parse_labels, "A,B|@FILE")]
    """Class names, separated by commas; put a name with a comma in double quotes. @FILE reads one name per line."""
    templates: TemplateFlag = ()
    """Prompt with {} in place of the label. Repeat to average several prompts (default: those of the model)."""
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
