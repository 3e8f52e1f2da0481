"""The command `zebra explain MODEL IMAGE TEXT... --out map.html`."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import ImageArg, ModelArg, TextArgs, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.config.explain import ExplainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ExplainConfig):
    """Arguments of `zebra explain`."""

    model: ModelArg
    image: ImageArg
    texts: TextArgs


def run(argv: Sequence[str]) -> int:
    """Write the heat maps and print the cosine of the image to each text."""
    args = parse_args(Args, "explain", argv, description="Show what in an image matches texts, as heat maps.")
    from zebra.workflows import explain

    heat_maps = explain.run(args)
    for text, cosine in zip(heat_maps.texts, heat_maps.cosines, strict=True):
        echo(f"  {cosine:6.3f}  {text}")
    echo(f"heat maps: {args.out}")
    return EXIT_OK
