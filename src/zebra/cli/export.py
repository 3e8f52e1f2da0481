"""`zebra export MODEL --format zebra|transformers|open_clip|onnx --out DIR`: a model for another library."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import PositionalStr, With, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.config.export import ExportConfig, ExportFormat

USAGE_HINTS: dict[ExportFormat, str] = {
    "zebra": 'zebra.load("{out}")',
    "transformers": 'transformers.CLIPModel.from_pretrained("{out}")',
    "open_clip": 'open_clip.create_model_from_pretrained("local-dir:{out}")',
    "onnx": "{out}/README.md shows how to run it with onnxruntime",
}


@dataclass(frozen=True, slots=True)
class Args:
    """What `zebra export` is told."""

    model: PositionalStr
    """A model folder of any layout, an OpenAI .pt file, or hf:org/name."""
    format: ExportFormat
    """The layout to write."""
    out: str
    """A new folder."""
    wise_ft: float = 1.0
    """Share of the model's weights to take, the rest from --with: 0.5 keeps much of what it knew before."""
    base: With = None
    """The model that this one was fine-tuned from."""


def run(argv: Sequence[str]) -> int:
    """Write the folder and say how to open it."""
    told = parse_args(Args, "export", argv, description="Write a model so that another library opens it.")
    from zebra.workflows import export

    out = export.run(
        ExportConfig(model=told.model, format=told.format, out=told.out, wise_ft=told.wise_ft, base=told.base)
    )
    echo(f"{out}: open it with {USAGE_HINTS[told.format].format(out=out)}")
    return EXIT_OK
