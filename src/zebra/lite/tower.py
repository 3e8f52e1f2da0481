"""One tower as a graph in onnxruntime, opened when it is first used."""

import contextlib
import ctypes
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.pretrained.onnx.model_folder import Graph
from zebra.pretrained.onnx.session import build_session

Inputs = dict[str, NDArray[Any]]
"""Inputs of a graph by name."""


class OnnxTower:
    """A graph of a tower that maps inputs to unit vectors."""

    def __init__(self, path: Path, graph: Graph, num_threads: int) -> None:
        """Name the graph and its file, which `verify_graph` has checked; nothing is read yet."""
        self.path, self.graph, self.num_threads = path, graph, num_threads

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return unit vectors [B, E].

        Raises:
            WeightsError: onnxruntime cannot open the graph.
        """
        [vectors_BE] = self._session.run(None, inputs)
        return np.asarray(vectors_BE, np.float32)

    @cached_property
    def _session(self) -> Any:
        session = build_session(self.path, num_threads=self.num_threads, purpose="zebra.lite", save_memory=True)
        release_free_memory()  # of the parsed file: up to 70 MB of ViT-B/32 in int8
        return session


def release_free_memory() -> None:
    """Return freed memory to the system, where the C library can."""
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
