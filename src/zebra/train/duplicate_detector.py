"""Pictures in, a small tower out that maps a picture and its distorted copies to one place (CLIP App. C).

The paper's own embedding was no good for finding duplicates: it knows what is in a picture, not which picture it is. So
a tower is trained to find each picture's other distortion among those of a batch, by InfoNCE at a fixed temperature.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from zebra.config.model import ResNetConfig
from zebra.config.train import OptimizerConfig
from zebra.errors import DataError
from zebra.images.distort import distort
from zebra.losses import info_nce
from zebra.models.image.resnet import ModifiedResNet
from zebra.models.init import initialise_resnet
from zebra.train.optimizer import adamw
from zebra.train.schedule import learning_rate

TOWER = ResNetConfig(width=16, layers=(1, 1, 1, 1), heads=8)
SIZE, WIDTH = 64, 128
TEMPERATURE = 0.07
LR = 2e-3


class Detector:
    """Embeds pictures so that copies of one picture lie close together."""

    def __init__(self, tower: ModifiedResNet) -> None:
        self.tower = tower

    def __call__(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return unit vectors [N, 128]."""
        self.tower.eval()
        with torch.inference_mode():
            vectors_NE: NDArray[np.float32] = _unit(
                self.tower(_pixels([_plain(image) for image in images]))
            ).numpy()
        return vectors_NE


def train_detector(
    draw: Callable[[NDArray[np.int64]], Sequence[Image.Image]],
    found: int,
    *,
    steps: int = 400,
    batch_size: int = 64,
    seed: int = 0,
    watch: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Detector:
    """Train on pairs of distortions.

    Args:
        draw: Opens the pictures at some positions of the data.
        found: How many there are.
        watch: Told each step and its loss.

    Raises:
        DataError: There are fewer pictures than a batch has.
    """
    if found < batch_size:
        raise DataError(
            f"{found} pictures are fewer than a batch of {batch_size}; a detector needs more to learn from"
        )
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    tower = ModifiedResNet(TOWER, SIZE, WIDTH)
    initialise_resnet(tower)
    optimizer = adamw(tower, OptimizerConfig())
    scale = torch.tensor(1 / TEMPERATURE)
    for step in range(steps):
        images = draw(rng.choice(found, batch_size, replace=False))
        first, second = (
            _unit(tower(_pixels([distort(image, SIZE, rng) for image in images]))) for _ in range(2)
        )
        loss = info_nce(first, second, scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=LR, warmup_steps=max(1, steps // 10), steps=steps)
        optimizer.step()
        watch(step + 1, loss.item())
    return Detector(tower)


def _plain(image: Image.Image) -> Image.Image:
    return image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def _pixels(images: Sequence[Image.Image]) -> Tensor:
    stacked = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1)
