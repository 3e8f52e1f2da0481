"""Open the folder that `zebra export --format onnx` writes."""

import os
from pathlib import Path
from typing import Literal, get_args

import PIL
import tokenizers

from zebra.config.cores import usable_cores
from zebra.errors import ConfigError, WeightsError, show_value
from zebra.images.preprocess import Preprocess
from zebra.lite.golden import compare_golden_vectors
from zebra.lite.model import LiteModel
from zebra.lite.tower import OnnxTower
from zebra.lite.trial import pick_faster_tower
from zebra.pretrained.digests import cached_sha256, has_passed, record_passed
from zebra.pretrained.onnx.model_folder import (
    Graph,
    GraphPrecision,
    OnnxModel,
    Tower,
    read_onnx_model,
    verify_graph,
    verify_settings,
)
from zebra.pretrained.onnx.session import import_onnxruntime
from zebra.text.files import read_json_object

LitePrecision = Literal["auto", GraphPrecision]
MIN_COSINE_OF_AUTO = 0.999
"""`auto` takes int8 only for towers whose vectors have at least this cosine to fp32."""
_TOWERS: tuple[Tower, ...] = get_args(Tower)


def load(
    folder: str | os.PathLike[str],
    precision: LitePrecision = "auto",
    *,
    num_threads: int | None = None,
    verify: bool = True,
) -> LiteModel:
    """Open a model on the CPU.

    Each graph is read when it is first needed: a program that encodes images only never loads the text tower. The first
    call on a machine also compares golden vectors, reads the files for their SHA-256 and, for "auto", measures which
    precision is faster; the results are cached on disk.

    Args:
        folder: What `zebra export MODEL --format onnx --out DIR` wrote. Graphs that are not used may be deleted.
        precision: "auto" takes int8 for each tower that has such a graph with a cosine of at least 0.999 to fp32, if it
            is faster on this processor, else fp32.
        num_threads: Threads per graph; None takes all usable cores.
        verify: False skips the golden vectors, not the hashes.

    Raises:
        WeightsError: The folder is no such model, has a newer format or lacks the precision, or a file is missing,
            damaged, or would read files outside the folder; or the golden vectors differ.
        ConfigError: `precision` or `num_threads` has another value.
        MissingExtra: onnxruntime is not installed.
    """
    if precision not in get_args(LitePrecision) and precision not in get_args(GraphPrecision):
        names = ", ".join(("auto", *get_args(GraphPrecision)))
        raise ConfigError(f"precision is {show_value(precision)}; choose one of {names}")
    num_threads = usable_cores() if num_threads is None else num_threads
    if num_threads < 1:
        raise ConfigError(f"num_threads is {num_threads}; it must be at least 1")
    versions = [import_onnxruntime("zebra.lite").__version__, PIL.__version__, tokenizers.__version__]
    folder = Path(folder)
    settings = read_onnx_model(folder)
    verify_settings(folder, cached_sha256)
    if not settings.graphs:
        raise WeightsError(f"{folder} has no graphs. Export the model again.")
    towers = {
        tower: _open_tower(folder, settings, tower, precision, num_threads)
        for tower in _TOWERS
        if any(graph.tower == tower for graph in settings.graphs)
    }
    model = LiteModel(folder, settings, Preprocess.from_dict(read_json_object(folder / "preprocess.json")), towers)
    if verify:
        digests = [cached_sha256(folder / name) for tower in towers.values() for name in tower.graph.files]
        check = " ".join(["lite", *versions, settings.fingerprint, *digests])
        if not has_passed(check):
            compare_golden_vectors(model)
            record_passed(check)
    return model


def _open_tower(
    folder: Path, settings: OnnxModel, tower: Tower, precision: LitePrecision, num_threads: int
) -> OnnxTower:
    if precision != "auto":
        graphs = [_require_graph(folder, settings, tower, precision)]
    else:
        graphs = [graph for graph in _auto_candidates(settings, tower) if (folder / graph.file).is_file()]
        if not graphs:
            graphs = [_require_graph(folder, settings, tower, "fp32")]
    candidates = [OnnxTower(verify_graph(folder, graph, cached_sha256), graph, num_threads) for graph in graphs]
    return candidates[0] if len(candidates) == 1 else pick_faster_tower(candidates, folder)


def _auto_candidates(settings: OnnxModel, tower: Tower) -> list[Graph]:
    """Return the graphs that "auto" chooses from, the probably fastest first."""
    int8, fp32 = (settings.find_graph(tower, name) for name in ("int8", "fp32"))
    accurate = int8 if int8 is not None and int8.min_cosine >= MIN_COSINE_OF_AUTO else None
    return [graph for graph in (accurate, fp32) if graph is not None]


def _require_graph(folder: Path, settings: OnnxModel, tower: Tower, precision: GraphPrecision) -> Graph:
    graph = settings.find_graph(tower, precision)
    if graph is None:
        precisions = [graph.precision for graph in settings.graphs if graph.tower == tower]
        reasons = "".join(f" {line}." for line in settings.omitted if precision in line and tower in line)
        raise WeightsError(
            f"{folder} has no {tower} tower in {precision}, but in {', '.join(precisions)}.{reasons} Pass "
            f"precision={precisions[0]!r} or 'auto', or export the model again."
        )
    return graph
