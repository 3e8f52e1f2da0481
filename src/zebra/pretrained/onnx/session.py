"""Sessions of onnxruntime on the CPU."""

import importlib
from pathlib import Path
from typing import Any

from zebra.errors import MissingExtra


def build_session(graph: Path | bytes, *, num_threads: int, purpose: str, save_memory: bool = False) -> Any:
    """Return an `InferenceSession`.

    Args:
        graph: Path or content of an ONNX file.
        purpose: What needs onnxruntime, for the message if it is missing.
        save_memory: Return the memory of intermediate results after every call.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    onnxruntime = import_onnxruntime(purpose)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    # Spinning threads would take CPU time from the threads that decode images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if save_memory:
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def import_onnxruntime(purpose: str) -> Any:
    """Return the module; MissingExtra if it is not installed."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingExtra("onnxruntime", purpose, "onnx") from error
