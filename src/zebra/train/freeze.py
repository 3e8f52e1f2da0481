"""Freeze towers and batch norm statistics for fine-tuning."""

from zebra.config.finetune import TrainTowers
from zebra.models import CLIP
from zebra.train.batchnorm import freeze_batchnorm

TOWER_MODULES: dict[TrainTowers, tuple[str, ...]] = {"all": ("visual", "text"), "text": ("text",), "image": ("visual",)}
"""Modules of `CLIP` that are trained."""


def freeze(model: CLIP, train_towers: TrainTowers) -> None:
    """Freeze batch norm statistics and the towers that are not trained; the temperature is always trained.

    Freezing the image tower is LiT (Zhai et al. 2022, arXiv 2111.07991).
    """
    freeze_batchnorm(model)
    for tower in ("visual", "text"):
        model.get_submodule(tower).requires_grad_(tower in TOWER_MODULES[train_towers])
