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
from zebra.images.distort import distort_image
from zebra.losses import info_nce
from zebra.models.image.resnet import ModifiedResNet
from zebra.models.init import initialize_resnet
from zebra.train.optimizer import build_optimizer
from zebra.train.schedule import learning_rate

TOWER_CONFIG = ResNetConfig(width=16, layers=(1, 1, 1, 1), heads=8)
IMAGE_SIZE, EMBED_DIM = 64, 128
TEMPERATURE = 0.07
PEAK_LR = 2e-3


class DuplicateDetector:
    """Embeds pictures so that copies of one picture lie close together."""

    def __init__(self, tower: ModifiedResNet) -> None:
        self.tower = tower

    def __call__(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return unit vectors [N, 128]."""
        self.tower.eval()
        with torch.inference_mode():
            vectors_NE: NDArray[np.float32] = _normalize(
                self.tower(_images_to_tensor([_resize(image) for image in images]))
            ).numpy()
        return vectors_NE


def train_duplicate_detector(
    load_images: Callable[[NDArray[np.int64]], Sequence[Image.Image]],
    num_images: int,
    *,
    steps: int = 400,
    batch_size: int = 64,
    seed: int = 0,
    callback: Callable[[int, float], None] = lambda _step, _loss: None,
) -> DuplicateDetector:
    """Train on pairs of distortions.

    Args:
        load_images: Opens the pictures at some positions of the data.
        num_images: How many there are.
        callback: Told each step and its loss.

    Raises:
        DataError: There are fewer pictures than a batch has.
    """
    if num_images < batch_size:
        raise DataError(
            f"{num_images} pictures are fewer than a batch of {batch_size}; a detector needs more to learn from"
        )
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    tower = ModifiedResNet(TOWER_CONFIG, IMAGE_SIZE, EMBED_DIM)
    initialize_resnet(tower)
    optimizer = build_optimizer(tower, OptimizerConfig())
    scale = torch.tensor(1 / TEMPERATURE)
    for step in range(steps):
        images = load_images(rng.choice(num_images, batch_size, replace=False))
        first, second = (
            _normalize(tower(_images_to_tensor([distort_image(image, IMAGE_SIZE, rng) for image in images])))
            for _ in range(2)
        )
        loss = info_nce(first, second, scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(
                step, peak_lr=PEAK_LR, warmup_steps=max(1, steps // 10), total_steps=steps
            )
        optimizer.step()
        callback(step + 1, loss.item())
    return DuplicateDetector(tower)


def _resize(image: Image.Image) -> Image.Image:
    return image.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)


def _images_to_tensor(images: Sequence[Image.Image]) -> Tensor:
    stacked = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _normalize(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1)
