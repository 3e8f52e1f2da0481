"""Duplicate detector: a small tower with similar vectors for copies (CLIP App. C).

The paper found CLIP's own embedding unsuitable for duplicates, because it encodes the content of an image, not its
identity. So a tower is trained by InfoNCE at a fixed temperature to match two distortions of each image in a batch.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from zebra.config.image_towers import ResNetConfig
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
    """Embeds images so that copies of one image have nearby vectors."""

    def __init__(self, tower: ModifiedResNet) -> None:
        self.tower = tower

    def __call__(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return unit vectors [N, 128]; a mirrored image has the same vector."""
        self.tower.eval()
        size = (IMAGE_SIZE, IMAGE_SIZE)
        resized = [image.convert("RGB").resize(size, Image.Resampling.BICUBIC) for image in images]
        with torch.inference_mode():
            image_NCHW = _images_to_tensor(resized)
            plain_NE, mirrored_NE = (F.normalize(self.tower(view)) for view in (image_NCHW, image_NCHW.flip(3)))
            vectors_NE: NDArray[np.float32] = F.normalize(plain_NE + mirrored_NE).numpy()
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
    """Train a detector on pairs of distortions.

    Args:
        load_images: Loads the images at the given positions of the data.
        num_images: Number of images in the data.
        callback: Called after each step with the step, from 1, and its loss.

    Raises:
        DataError: There are fewer images than a batch needs.
    """
    if num_images < batch_size:
        raise DataError(
            f"the duplicate detector needs at least {batch_size} training images, one batch; got {num_images}"
        )
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    tower = ModifiedResNet(TOWER_CONFIG, IMAGE_SIZE, EMBED_DIM)
    initialize_resnet(tower)
    optimizer = build_optimizer(tower, OptimizerConfig())
    logit_scale = torch.tensor(1 / TEMPERATURE)
    for step in range(steps):
        images = load_images(rng.choice(num_images, batch_size, replace=False))
        first_BE, second_BE = (
            F.normalize(tower(_images_to_tensor([distort_image(image, IMAGE_SIZE, rng) for image in images])))
            for _ in range(2)
        )
        loss = info_nce(first_BE, second_BE, logit_scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for param_group in optimizer.param_groups:
            param_group["lr"] = learning_rate(
                step, peak_lr=PEAK_LR, warmup_steps=max(1, steps // 10), total_steps=steps
            )
        optimizer.step()
        callback(step + 1, loss.item())
    return DuplicateDetector(tower)


def _images_to_tensor(images: Sequence[Image.Image]) -> Tensor:
    stacked = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
