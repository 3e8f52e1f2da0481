"""The backend onnxruntime: runs image towers from ONNX graphs cached on disk."""

import os
import shutil
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from zebra import __version__
from zebra.atomic_io import atomic_write
from zebra.config.cache import cache_dir
from zebra.errors import WeightsError
from zebra.images.naflex import group_by_length
from zebra.images.preprocess import Preprocess
from zebra.images.tensors import Pixels
from zebra.pretrained.backends import Backend
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.digests import cached_sha256
from zebra.pretrained.manifest import verify_manifest, write_manifest
from zebra.pretrained.onnx.graph import write_image_graph
from zebra.pretrained.onnx.model_folder import GRID, PIXELS
from zebra.pretrained.onnx.session import build_session, import_onnxruntime

GRAPH_FILE = "vision_model.onnx"
PURPOSE = "backend='onnxruntime'"
MAX_CACHED_GRAPHS = 4
"""Limit of graphs on disk, each as large as its tower; the least recently used are evicted first."""


class OnnxImageEncoder:
    """An image tower in onnxruntime on the CPU, with the number of threads of torch."""

    backend: ClassVar[Backend] = "onnxruntime"

    def __init__(self, path: Path, preprocess: Preprocess) -> None:
        self._session = build_session(path, num_threads=torch.get_num_threads(), purpose=PURPOSE)
        self._preprocess = preprocess

    def __call__(self, pixels: Pixels) -> Tensor:
        """Return unit vectors [B, E]."""
        patch_size = self._preprocess.patch_size
        if patch_size is None:
            assert isinstance(pixels, Tensor), "images of a fixed size"
            return self._run({PIXELS: self._preprocess.normalize(pixels)})
        order_N, batches = group_by_length(pixels, patch_size)
        normalized = (self._preprocess.normalize_patches(batch) for batch in batches)
        vectors = [self._run({PIXELS: batch.patches_BPI, GRID: batch.grid_B2}) for batch in normalized]
        return torch.cat(vectors)[order_N]

    def _run(self, inputs: dict[str, Tensor]) -> Tensor:
        [vectors_BE] = self._session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return torch.from_numpy(vectors_BE)


def to_onnxruntime(bundle: Bundle) -> Bundle:
    """Return the bundle with its image tower in onnxruntime; texts and features still run in torch.

    Raises:
        MissingExtra: onnxruntime is not installed, or a package that writes the graph of a new model.
    """
    assert bundle.fingerprint, "graphs are cached by the fingerprint of the model"
    import_onnxruntime(PURPOSE)  # before a graph is written in vain
    encoder = OnnxImageEncoder(_get_cached_graph(bundle), bundle.preprocess)
    return Bundle(
        bundle.model,
        bundle.tokenizer,
        bundle.preprocess,
        lambda: bundle.fingerprint,
        image_encoder=encoder,
        templates=bundle.templates,
    )


def _get_cached_graph(bundle: Bundle) -> Path:
    """Return the path of the model's graph; write the graph if it is missing or damaged."""
    graphs_dir = cache_dir() / "graphs"
    folder = graphs_dir / f"{bundle.fingerprint}-{__version__}-torch{torch.__version__}"
    try:
        verify_manifest(folder, cached_sha256, required=[GRAPH_FILE])
    except WeightsError:
        try:
            _write_graph(bundle, folder)
        except OSError as error:
            raise WeightsError(
                f"the graph for onnxruntime cannot be written to {graphs_dir} ({error}). Free disk space, or set "
                "ZEBRA_CACHE to another folder."
            ) from error
    os.utime(folder)
    # Includes the temporary folders of killed processes.
    newest_first = sorted(graphs_dir.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for unused in newest_first[MAX_CACHED_GRAPHS:]:
        shutil.rmtree(unused, ignore_errors=True)
    return folder / GRAPH_FILE


def _write_graph(bundle: Bundle, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as partial:
        partial.mkdir()
        write_image_graph(bundle.model, partial / GRAPH_FILE)
        write_manifest(partial)
        shutil.rmtree(folder, ignore_errors=True)
