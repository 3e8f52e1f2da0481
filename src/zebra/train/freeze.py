"""Freeze towers and batch norm statistics for fine-tuning."""

from torch import nn

from zebra.config.finetune import TrainTowers
from zebra.models import CLIP

TOWER_MODULES: dict[TrainTowers, tuple[str, ...]] = {"all": ("visual", "text"), "text": ("text",), "image": ("visual",)}
"""Modules of `CLIP` that are trained."""


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with fixed statistics: a small dataset would estimate them worse than the original one."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":  # noqa: ARG002  # torch's signature
        """Stay in inference mode, whatever `mode` is."""
        return super().train(False)


def freeze(model: CLIP, train_towers: TrainTowers) -> None:
    """Freeze batch norm statistics and the towers that are not trained; the temperature is always trained.

    Freezing the image tower is LiT (Zhai et al. 2022, arXiv 2111.07991).
    """
    _freeze_batch_norm(model)
    for tower in ("visual", "text"):
        model.get_submodule(tower).requires_grad_(tower in TOWER_MODULES[train_towers])


def _freeze_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            frozen = FrozenBatchNorm2d(child.num_features, eps=child.eps).to(child.weight.device)
            frozen.load_state_dict(child.state_dict())
            setattr(module, name, frozen.eval())
        else:
            _freeze_batch_norm(child)
