"""Patch dropout (FLIP, Li et al. 2023, arXiv 2212.00794): a step in, the patches its pictures are seen by out."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from zebra.config.model import ResNetConfig
from zebra.config.train import TrainConfig
from zebra.distributed import ProcessGroup

_RNG_STREAM = 3
"""Tells this stream of random numbers from those of `zebra.data.sampling`."""


def build_patch_dropout(
    config: TrainConfig, group: ProcessGroup, device: torch.device
) -> Callable[[int], Tensor | None]:
    """Return a function from the step to this process's share of the patches seen, int64 [B, K], sorted; None: all.

    Drawn for the whole batch from seed and step: the same for any number of processes, chunks and interruptions.
    """
    if not config.patch_dropout:
        return lambda _step: None
    vision = config.model.vision
    assert not isinstance(vision, ResNetConfig)
    patches = (config.model.image_size // vision.patch_size) ** 2
    kept = max(1, round(patches * (1 - config.patch_dropout)))

    def seen(step: int) -> Tensor:
        noise_BP = np.random.default_rng([config.seed, step, _RNG_STREAM]).random(
            (config.batch_size, patches), np.float32
        )
        chosen_BK = np.argpartition(noise_BP[group.local_slice(config.batch_size)], kept - 1, axis=1)[
            :, :kept
        ]
        return torch.from_numpy(np.sort(chosen_BK, axis=1)).to(device)

    return seen
