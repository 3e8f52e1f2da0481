"""The command `zebra export MODEL --format FORMAT --out DIR`."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import ModelArg, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.config.export import ExportConfig, ExportFormat

USAGE_HINTS: dict[ExportFormat, str] = {
    "zebra": 'open it with zebra.load("{out}")',
    "transformers": 'open it with transformers.CLIPModel.from_pretrained("{out}")',
    "open_clip": 'open it with open_clip.create_model_from_pretrained("local-dir:{out}")',
    "onnx": "{out}/README.md shows how to run it with onnxruntime",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ExportConfig):
    """Arguments of `zebra export`."""

    model: ModelArg


def run(argv: Sequence[str]) -> int:
    """Export the model and print how to open it."""
    args = parse_args(Args, "export", argv, description="Write a model in the layout of another library.")
    from zebra.workflows import export

    out = export.run(args)
    echo(f"{out}: {USAGE_HINTS[args.format].format(out=out)}")
    return EXIT_OK
