"""The reference libraries of parity tests; tests of a library that is not installed are skipped."""

import contextlib
import importlib.util
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="session")
def torchvision() -> Iterator[None]:
    """Declare two operators that torchvision, if installed, expects and a CPU build of torch does not have."""
    library = None
    if importlib.util.find_spec("torchvision"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):  # tests of another folder declared it in this process
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield
    del library  # deleting the library removes the operators


@pytest.fixture(scope="session")
def open_clip(torchvision: None) -> ModuleType:
    """Return open_clip, which builds SigLIP's image towers with timm."""
    pytest.importorskip("timm")
    module: ModuleType = pytest.importorskip("open_clip")
    return module


@pytest.fixture(scope="session")
def transformers(torchvision: None) -> ModuleType:
    """Return Hugging Face transformers, which imports torchvision if it is installed."""
    module: ModuleType = pytest.importorskip("transformers")
    return module
