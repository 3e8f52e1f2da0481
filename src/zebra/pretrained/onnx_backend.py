"""`backend="onnxruntime"`: a model in; its image tower as onnxruntime runs it, from a graph kept on disk, out."""

import importlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from zebra import __version__
from zebra.config.cache import cache_dir
from zebra.errors import MissingExtra, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.pretrained.backends import Backend
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.digests import cached_sha256
from zebra.pretrained.manifest import verify_manifest, write_manifest
from zebra.pretrained.onnx_export import export_image_tower

GRAPH_FILE = "image.onnx"
MAX_CACHED_GRAPHS = 4
"""Graphs kept on disk, as large as the towers they are of; the one unused for longest goes first."""


class OnnxImageEncoder:
    """An image tower in onnxruntime on the CPU, with as many threads as torch has."""

    backend: ClassVar[Backend] = "onnxruntime"

    def __init__(self, path: Path, preprocess: Preprocess) -> None:
        onnxruntime = _import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that wait for work by spinning would take the processor from whatever decodes pictures meanwhile.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._preprocess = preprocess

    def __call__(self, pixels_B3HW: Tensor) -> Tensor:
        """Return unit vectors [B, E]."""
        pixels = self._preprocess.normalize(pixels_B3HW).numpy()
        [vectors_BE] = self._session.run(None, {"pixels": pixels})
        return torch.from_numpy(vectors_BE)


def to_onnxruntime(bundle: Bundle) -> Bundle:
    """Return the bundle with its image tower in onnxruntime; texts and features stay with torch.

    Raises:
        MissingExtra: onnxruntime is not installed, or, for a model seen for the first time, what writes its graph.
    """
    assert bundle.fingerprint, "a graph is kept by the fingerprint of its model"
    _import_onnxruntime()  # before a graph is written for nothing
    encoder = OnnxImageEncoder(_get_cached_graph(bundle), bundle.preprocess)
    return Bundle(
        bundle.model, bundle.tokenizer, bundle.preprocess, lambda: bundle.fingerprint, image_encoder=encoder
    )


def _get_cached_graph(bundle: Bundle) -> Path:
    """Return the graph of this model, written if it is not there or damaged."""
    graphs = cache_dir() / "graphs"
    folder = graphs / f"{bundle.fingerprint}-{__version__}-torch{torch.__version__}"
    try:
        verify_manifest(folder, cached_sha256)
    except WeightsError:
        try:
            _write_graph(bundle, folder)
        except OSError as error:
            raise WeightsError(
                f"the graph for onnxruntime cannot be written to {graphs} ({error}); free space there, or set "
                "ZEBRA_CACHE to another folder"
            ) from error
    os.utime(folder)
    # What a killed process left half written is among them.
    oldest_last = sorted(graphs.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for unused in oldest_last[MAX_CACHED_GRAPHS:]:
        shutil.rmtree(unused, ignore_errors=True)
    return folder / GRAPH_FILE


def _write_graph(bundle: Bundle, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="writing-") as place:
        fresh = Path(place) / "graph"
        fresh.mkdir()
        export_image_tower(bundle.model, fresh / GRAPH_FILE)
        write_manifest(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)


def _import_onnxruntime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingExtra("onnxruntime", "backend='onnxruntime'", "onnx") from error
