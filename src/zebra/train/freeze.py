"""A trained model in; the same model out, with what should not learn locked."""

import re

from torch import nn

from zebra.config.finetune import TrainTowers
from zebra.models import CLIP

TOWER_MODULES: dict[TrainTowers, tuple[str, ...]] = {
    "all": ("visual", "text"),
    "text": ("text",),
    "image": ("visual",),
}
"""Modules of `CLIP` that learn."""


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that keeps its statistics: those of a small set would be worse than those of the large one."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":  # noqa: ARG002  # torch's signature
        """Stay as in inference, whatever is asked."""
        return super().train(False)


def freeze(model: CLIP, train_towers: TrainTowers) -> None:
    """Lock batch norm's statistics and, if asked to, one of the towers; the temperature always learns.

    Locking the image tower is LiT (Zhai et al. 2022, arXiv 2111.07991).
    """
    _freeze_batch_norm(model)
    for tower in ("visual", "text"):
        model.get_submodule(tower).requires_grad_(tower in TOWER_MODULES[train_towers])


def _freeze_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            fixed = FrozenBatchNorm2d(child.num_features, eps=child.eps).to(child.weight.device)
            fixed.load_state_dict(child.state_dict())
            setattr(module, name, fixed.eval())
        else:
            _freeze_batch_norm(child)


def layer_depths(model: nn.Module) -> dict[str, int]:
    """Return for every parameter how many blocks of its tower lie above it: 0 for heads and the temperature.

    Embeddings and stems lie below all blocks.
    """
    names = [name for name, _ in model.named_parameters()]
    found = {name: _block_index(name) for name in names}
    tops = {tower: max((b for n, b in found.items() if b is not None and _tower_name(n) == tower), default=0)
            for tower in ("visual", "text")}  # fmt: skip
    above: dict[str, int] = {}
    for name, block in found.items():
        if block is None:
            above[name] = 0
        else:
            above[name] = tops[_tower_name(name)] + 1 - block
    return above


def _tower_name(parameter_name: str) -> str:
    return parameter_name.partition(".")[0]


def _block_index(parameter_name: str) -> int | None:
    """Return 0 for what feeds the first block, the block's number from 1, and None for what comes after the last."""
    if numbered := re.search(r"resblocks\.(\d+)\.", parameter_name):
        return int(numbered[1]) + 1
    if stage := re.match(r"visual\.layer(\d)\.", parameter_name):
        return int(stage[1])
    below = (
        r"visual\.(conv|bn)\d|.*(class_embedding|token_embedding|ln_pre)|(visual|text)\.positional_embedding"
    )
    return 0 if re.match(below, parameter_name) else None
