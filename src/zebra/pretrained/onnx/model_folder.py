"""Format and verification of the folder that `zebra export --format onnx` writes.

onnx/vision_model.onnx  onnx/text_model.onnx  zebra.json  preprocess.json  tokenizer.json  golden.npz  MANIFEST.json
config.json  preprocessor_config.json  tokenizer_config.json

This module needs neither torch nor onnx. The page docs/onnx.md describes the format.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zebra.config.structure import structure, unstructure
from zebra.errors import ConfigError, WeightsError, show_value
from zebra.pretrained.digests import sha256
from zebra.pretrained.manifest import verify_manifest
from zebra.pretrained.onnx.graph_check import check_graph
from zebra.text.files import read_json_object

Tower = Literal["image", "text"]
GraphPrecision = Literal["fp32", "fp16", "int8"]

MODEL_FILE = "zebra.json"
GOLDEN_FILE = "golden.npz"
GRAPHS_DIR = "onnx"
TOWER_FILES: dict[Tower, str] = {"image": "vision_model", "text": "text_model"}
PRECISION_SUFFIXES: dict[GraphPrecision, str] = {"fp32": "", "fp16": "_fp16", "int8": "_quantized"}
"""Ends of file names, by which transformers.js finds the `dtype` fp32, fp16 and q8."""
PIXELS, GRID, TOKENS = "pixel_values", "spatial_shapes", "input_ids"
"""Names of the inputs of the graphs, as in transformers; the grid is an input of NaFlex only."""
SETTINGS_FILES = (MODEL_FILE, "preprocess.json", "tokenizer.json", GOLDEN_FILE)
FORMAT_VERSION = {"format": "zebra-onnx", "version": 1}


@dataclass(frozen=True, slots=True)
class Graph:
    """A tower in one precision."""

    tower: Tower
    precision: GraphPrecision
    file: str
    """Path in the folder, such as onnx/vision_model.onnx."""
    data: str | None
    """Path of the file that has the weights of a graph over 2 GB."""
    min_cosine: float
    """Smallest cosine of its vectors to those of torch in fp32, on the golden input and ten more."""

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the graph's files in the folder."""
        return (self.file,) if self.data is None else (self.file, self.data)


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """The content of `zebra.json`: what the graphs compute, and which there are."""

    fingerprint: str
    """Fingerprint of the model that was exported."""
    embed_dim: int
    dimensions: tuple[int, ...]
    """Smaller sizes that the vectors may be cut to, if the model was trained for them."""
    context_length: int
    """Maximum length of a text in tokens."""
    has_fixed_length: bool
    """Whether texts must be padded to the context length; else to the longest of the batch."""
    pad_token_id: int
    logit_scale: float
    logit_bias: float | None
    """None: scores are a softmax over the classes; else the sigmoid of each logit with this bias."""
    templates: tuple[str, ...]
    graphs: tuple[Graph, ...]
    omitted: tuple[str, ...] = ()
    """A line for each graph that was not written, with the reason."""

    def find_graph(self, tower: Tower, precision: GraphPrecision) -> Graph | None:
        """Return the graph of a tower in a precision; None if the folder has none."""
        return next((graph for graph in self.graphs if (graph.tower, graph.precision) == (tower, precision)), None)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object of `zebra.json`."""
        return {**FORMAT_VERSION, **unstructure(self)}


def graph_file(tower: Tower, precision: GraphPrecision) -> str:
    """Return the path of a graph in the folder."""
    return f"{GRAPHS_DIR}/{TOWER_FILES[tower]}{PRECISION_SUFFIXES[precision]}.onnx"


def read_onnx_model(folder: Path) -> OnnxModel:
    """Read `zebra.json`.

    Raises:
        WeightsError: The file is missing or damaged, or the format has another version.
    """
    path = folder / MODEL_FILE
    if not path.is_file():
        raise WeightsError(
            f"{folder} is not a model for onnxruntime: it has no {MODEL_FILE}. Write one with "
            "`zebra export MODEL --format onnx --out DIR`."
        )
    raw = read_json_object(path)
    version = {name: raw.pop(name, None) for name in FORMAT_VERSION}
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{path} has the format {show_value(version['format'])}, version {show_value(version['version'])}, instead "
            f"of {FORMAT_VERSION['format']}, version {FORMAT_VERSION['version']}. Use the zebra that wrote it, or "
            "export the model again."
        )
    try:
        return structure(OnnxModel, raw, "model")
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}. Export the model again.") from error


def verify_settings(folder: Path, digest: Callable[[Path], str] = sha256) -> None:
    """Compare the files that are no graphs with MANIFEST.json.

    Raises:
        WeightsError: A file is missing or changed.
    """
    verify_manifest(folder, digest, required=SETTINGS_FILES, only=SETTINGS_FILES)


def verify_graph(folder: Path, graph: Graph, digest: Callable[[Path], str] = sha256) -> Path:
    """Compare a graph with MANIFEST.json, check that it reads no file outside its folder, and return its path.

    Args:
        digest: Returns the SHA-256 of a file, such as `zebra.pretrained.digests.cached_sha256`.

    Raises:
        WeightsError: A file is missing, truncated or changed, is no ONNX graph, or refers to other files.
    """
    verify_manifest(folder, digest, required=graph.files, only=graph.files)
    check_graph(folder / graph.file, allowed_data=None if graph.data is None else Path(graph.data).name)
    return folder / graph.file
