"""Patch dropout (FLIP, Li et al. 2023, arXiv 2212.00794)."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from zebra.config.image_towers import SiglipVisionConfig, VisionTransformerConfig
from zebra.config.train import TrainConfig
from zebra.distributed import ProcessGroup

_RNG_STREAM = 3
"""Separates these random numbers from those of `zebra.data.sampling`."""


def build_patch_dropout(
    config: TrainConfig, group: ProcessGroup, device: torch.device
) -> Callable[[int], Tensor | None]:
    """Return a function from the step to the indices of the kept patches.

    The indices are int64 [B, K], sorted, for this process's slice of the batch; None keeps all patches. They are drawn
    for the global batch from seed and step, so they do not depend on the number of processes, chunks or interruptions.
    """
    if not config.patch_dropout:
        return lambda _step: None
    vision = config.model.vision
    assert isinstance(vision, VisionTransformerConfig | SiglipVisionConfig)
    num_patches = (config.model.image_size // vision.patch_size) ** 2
    num_kept = max(1, round(num_patches * (1 - config.patch_dropout)))

    def sample_patches(step: int) -> Tensor:
        noise_BP = np.random.default_rng([config.seed, step, _RNG_STREAM]).random(
            (config.batch_size, num_patches), np.float32
        )
        local_BP = noise_BP[group.local_slice(config.batch_size)]
        ids_keep_BK = np.argpartition(local_BP, num_kept - 1, axis=1)[:, :num_kept]
        return torch.from_numpy(np.sort(ids_keep_BK, axis=1)).to(device)

    return sample_patches
