"""`zebra classify MODEL IMAGE... --labels "horse,zebra"`: labels of each picture, best first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import PositionalText, PositionalTexts, RepeatedText, parse
from zebra.cli.main import DONE, USAGE, say


@dataclass(frozen=True, slots=True)
class Words:
    """What `zebra classify` is told."""

    model: PositionalText
    """A model folder, for instance runs/demo/model."""
    images: PositionalTexts
    """Image files."""
    labels: str
    """Class names, separated by commas."""
    template: RepeatedText = ()
    """A prompt with {} where the label goes; several are averaged (default: "a photo of a {}.")."""
    json: bool = False
    """Print one JSON document instead of lines."""


def run(words: Sequence[str]) -> int:
    """Classify and print."""
    told = parse(Words, "classify", words, description="Name what is in pictures, by labels in words.")
    if not told.images:
        say("zebra classify: name at least one image file", error=True)
        return USAGE
    from zebra.text.templates import DEFAULT_TEMPLATES
    from zebra.workflows import classify

    labels = [label.strip() for label in told.labels.split(",")]
    ranked = classify.run(told.model, told.images, labels, told.template or DEFAULT_TEMPLATES)
    if told.json:
        document = [
            {"image": image, "scores": [{"label": p.label, "score": p.score} for p in predictions]}
            for image, predictions in zip(told.images, ranked, strict=True)
        ]
        say(json.dumps(document, indent=1))
        return DONE
    for image, predictions in zip(told.images, ranked, strict=True):
        say(image)
        for prediction in predictions:
            say(f"  {prediction.score:6.1%}  {prediction.label}")
    return DONE
