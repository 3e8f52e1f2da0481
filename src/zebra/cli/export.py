"""`zebra export MODEL --format zebra|transformers|open_clip|onnx --out DIR`: a model for another library."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import PositionalText, With, parse
from zebra.cli.main import DONE, say
from zebra.config.export import ExportConfig, Format

HINTS: dict[Format, str] = {
    "zebra": 'zebra.load("{out}")',
    "transformers": 'transformers.CLIPModel.from_pretrained("{out}")',
    "open_clip": 'open_clip.create_model_from_pretrained("local-dir:{out}")',
    "onnx": "{out}/README.md shows how to run it with onnxruntime",
}


@dataclass(frozen=True, slots=True)
class Words:
    """What `zebra export` is told."""

    model: PositionalText
    """A model folder of any layout, an OpenAI .pt file, or hf:org/name."""
    format: Format
    """The layout to write."""
    out: str
    """A new folder."""
    blend: float = 1.0
    """Share of the model's weights to take, the rest from --with: 0.5 keeps much of what it knew before."""
    start: With = None
    """The model that this one was fine-tuned from."""


def run(words: Sequence[str]) -> int:
    """Write the folder and say how to open it."""
    told = parse(Words, "export", words, description="Write a model so that another library opens it.")
    from zebra.workflows import export

    out = export.run(
        ExportConfig(model=told.model, format=told.format, out=told.out, blend=told.blend, start=told.start)
    )
    say(f"{out}: open it with {HINTS[told.format].format(out=out)}")
    return DONE
