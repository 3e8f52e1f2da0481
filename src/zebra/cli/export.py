"""The command `zebra export MODEL|STORE --format FORMAT --out PATH`."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.cli.arguments import ModelOrStoreArg, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.config.export import ExportConfig, ModelFormat, StoreFormat

USAGE_HINTS: dict[ModelFormat | StoreFormat, str] = {
    "zebra": 'open it with zebra.load("{out}")',
    "transformers": 'open it with transformers.CLIPModel.from_pretrained("{out}")',
    "open_clip": 'open it with open_clip.create_model_from_pretrained("local-dir:{out}")',
    "sentence-transformers": 'open it with sentence_transformers.SentenceTransformer("{out}")',
    "parquet": 'open it with pandas.read_parquet("{out}")',
    "csv": "lists and vectors are JSON; thumbnails are left out",
    "npy": 'open it with numpy.load("{out}/vectors.npy"); {out}/rows.parquet has a row for each vector',
    "onnx": "{out}/README.md shows how to run it with onnxruntime and transformers.js",
}

DESCRIPTION = """Write a model in the layout of another library, or the rows of a store as files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ExportConfig):
    """Arguments of `zebra export`."""

    model: ModelOrStoreArg


def run(argv: Sequence[str]) -> int:
    """Export the model or the store and print how to open it."""
    args = parse_args(Args, "export", argv, description=DESCRIPTION)
    from zebra.workflows import export

    out = export.run(args)
    echo(f"{out}: {USAGE_HINTS[args.format].format(out=out)}")
    return EXIT_OK
