"""Tasks of the command line as functions: `zebra.workflows.VERB.run(config)`."""

import importlib
from typing import Any

from zebra.gc_pause import pause_gc

__all__ = [
    "classify",
    "clusters",
    "compare",
    "curate",
    "dedup",
    "demo",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "human",
    "menagerie",
    "models",
    "outliers",
    "overlap",
    "probe",
    "push",
    "queries",
    "score",
    "search",
    "serve",
    "study",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        with pause_gc():
            return importlib.import_module(f"zebra.workflows.{name}")
    raise AttributeError(f"module 'zebra.workflows' has no attribute {name!r}")
