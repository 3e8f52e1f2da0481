"""A complete CLIP system.

`import zebra` takes milliseconds, because torch is imported only by the names that need it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from zebra.gc_pause import pause_gc

if TYPE_CHECKING:
    from zebra.cli.progress import show_progress as show_progress
    from zebra.pretrained.bundle import Bundle as Bundle
    from zebra.pretrained.classifier import load_classifier as load_classifier
    from zebra.pretrained.load import load as load
    from zebra.pretrained.shared_cores import share_cores as share_cores

__version__ = "0.1.0"

_LAZY_IMPORTS = {
    "load": "zebra.pretrained.load",
    "Bundle": "zebra.pretrained.bundle",
    "load_classifier": "zebra.pretrained.classifier",
    "Batch": "zebra.values",
    "Classification": "zebra.values",
    "Embeddings": "zebra.values",
    "Prediction": "zebra.values",
    "Record": "zebra.values",
    "Score": "zebra.values",
    "ZebraError": "zebra.errors",
    "share_cores": "zebra.pretrained.shared_cores",
    "show_progress": "zebra.cli.progress",
}
__all__ = [
    "Batch",
    "Bundle",
    "Classification",
    "Embeddings",
    "Prediction",
    "Record",
    "Score",
    "ZebraError",
    "__version__",
    "config",
    "data",
    "distributed",
    "evaluators",
    "integrations",
    "load",
    "load_classifier",
    "losses",
    "menagerie",
    "models",
    "protocols",
    "share_cores",
    "show_progress",
    "workflows",
]


def __getattr__(name: str) -> Any:
    try:
        with pause_gc():
            if name in _LAZY_IMPORTS:
                return getattr(importlib.import_module(_LAZY_IMPORTS[name]), name)
            if name in __all__:
                return importlib.import_module(f"zebra.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("zebra."):
            raise ImportError(
                f"zebra.{name} is not in zebra-clip-lite, which has zebra.lite only. Install the whole: "
                "pip uninstall zebra-clip-lite; pip install zebra-clip"
            ) from error
        raise
    raise AttributeError(f"module 'zebra' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
