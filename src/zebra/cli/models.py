"""The command `zebra models`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from zebra.cli.arguments import parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.config.models import ModelsConfig

if TYPE_CHECKING:
    from zebra.pretrained.known_models import KnownModel

DESCRIPTION = """List known models: the names that every command takes, with sizes, licenses and published scores.

px: side of the input image. M: parameters in millions. dim: width of the vectors. IN, COCO: published zero-shot
accuracy on ImageNet and recall@1 on MS COCO; --json has the sources. compute: operations per image relative to
ViT-B/32, counted from the architecture, to a power of two. opens: "zebra" computes the model itself, "+ timm" and
"+ transformers" need that extra. A dash stands for an unknown value.

--task lists only models that open, best first. classify: by accuracy on ImageNet. search: by recall on MS COCO.
multilingual: texts in other languages than English. small: about the operations of ViT-B/32, or fewer.
"""
WIDTH = 120
NAME_WIDTH = 47
"""Longer names get a line of their own, so that the table fits."""
HEADER = (
    f"{'name':<{NAME_WIDTH}} {'px':>4} {'M':>5} {'dim':>5} {'texts':<5} {'license':<12} {'IN':>5} {'COCO':>5} "
    f"{'compute':>7}  opens"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ModelsConfig):
    """Arguments of `zebra models`."""

    json: bool = False
    """Print one JSON document instead of a table."""


def run(argv: Sequence[str]) -> int:
    """Print the models, and the reasons for those that are refused."""
    args = parse_args(Args, "models", argv, description=DESCRIPTION)
    from zebra.workflows import models

    result = models.run(ModelsConfig(task=args.task))
    if args.json:
        echo(json.dumps([asdict(model) | {"compute": model.compute} for model in result], indent=1))
        return EXIT_OK
    echo(HEADER)
    for model in result:
        echo(format_model(model))
    num_open = sum(not model.refused for model in result)
    echo(f"{num_open} of {len(result)} models open. The sources of the scores: zebra models --json")
    return EXIT_OK


def format_model(model: "KnownModel") -> str:
    """Return the lines of a model; the last one says why it is refused, or what is special about its use."""
    columns = (
        f"{_format_number(model.image_size):>4} {_format_number(model.mparams):>5} "
        f"{_format_number(model.embed_dim):>5} "
        f"{model.languages:<5} {model.license or '–':<12} {_format_score(model.imagenet):>5} "
        f"{_format_score(model.coco):>5} {_format_compute(model.compute):>7}  {model.opens}"
    )
    fits = len(model.name) <= NAME_WIDTH
    lines = [f"{model.name:<{NAME_WIDTH}} {columns}"] if fits else [model.name, f"{'':<{NAME_WIDTH}} {columns}"]
    if remark := model.refused or model.note:
        lines.append(shorten(f"    {remark}", WIDTH))
    return "\n".join(lines)


def shorten(text: str, width: int) -> str:
    """Return a text of at most `width` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _format_number(number: float | None) -> str:
    return "–" if number is None else f"{number:.0f}"


def _format_score(score: float | None) -> str:
    return "–" if score is None else f"{score:.1f}"


def _format_compute(compute: float | None) -> str:
    return "–" if compute is None else f"×{compute:g}"
