"""The peers that parity tests compare with; without one installed, its tests are skipped by name."""

import importlib.util
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="session")
def torchvision() -> Iterator[None]:
    """Declare two operators that torchvision, if it is there, expects and a CPU build of torch does not bring."""
    library = None
    if importlib.util.find_spec("torchvision"):
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield
    del library  # alive until here: with it the operators would go


@pytest.fixture(scope="session")
def open_clip(torchvision: None) -> ModuleType:
    """open_clip, which builds SigLIP's image towers with timm."""
    pytest.importorskip("timm")
    module: ModuleType = pytest.importorskip("open_clip")
    return module


@pytest.fixture(scope="session")
def transformers(torchvision: None) -> ModuleType:
    """Hugging Face transformers, which imports torchvision where it is installed."""
    module: ModuleType = pytest.importorskip("transformers")
    return module
