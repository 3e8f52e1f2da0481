"""The peers that parity tests compare with; without one installed, its tests are skipped by name."""

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="session")
def open_clip() -> Iterator[ModuleType]:
    """open_clip; its torchvision expects two operators that a CPU build of torch does not bring."""
    pytest.importorskip("timm")
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield pytest.importorskip("open_clip")


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    """Hugging Face transformers."""
    module: ModuleType = pytest.importorskip("transformers")
    return module
