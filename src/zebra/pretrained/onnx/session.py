"""Sessions of onnxruntime on the CPU."""

import importlib
from pathlib import Path
from typing import Any

from zebra.errors import MissingExtra, WeightsError


def build_session(graph: Path | bytes, *, num_threads: int, purpose: str, save_memory: bool = False) -> Any:
    """Return an `InferenceSession`.

    Args:
        graph: Path or content of an ONNX file.
        purpose: What needs onnxruntime, for the message if it is missing.
        save_memory: Return the memory of intermediate results after every call.

    Raises:
        MissingExtra: onnxruntime is not installed.
        WeightsError: onnxruntime cannot open the graph.
    """
    onnxruntime = import_onnxruntime(purpose)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3  # errors; a constant that cannot be folded, for example, is only a warning
    # Spinning threads would take CPU time from the threads that decode images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if save_memory:
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime has no common class of exceptions
        name, reason = graph if isinstance(graph, Path) else "a graph", str(error).split("\n")[0][:300]
        raise WeightsError(
            f"onnxruntime cannot open {name}: {reason}. Copy the folder again, or update onnxruntime."
        ) from error


def import_onnxruntime(purpose: str) -> Any:
    """Return the module; MissingExtra if it is not installed."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingExtra("onnxruntime", purpose, "onnx") from error
