"""Batch norm over the batch of all processes, or with fixed statistics."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zebra.distributed import ProcessGroup


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the mean and variance of the global batch, of which each process has an equal part.

    It gives the numbers of a single process, and it also runs on CPUs, unlike `nn.SyncBatchNorm`.
    """

    def __init__(self, batch_norm: nn.BatchNorm2d, group: ProcessGroup) -> None:
        super().__init__(batch_norm.num_features, eps=batch_norm.eps, momentum=batch_norm.momentum)
        self.group = group
        self.to(batch_norm.weight.device, batch_norm.weight.dtype)
        self.load_state_dict(batch_norm.state_dict())

    def forward(self, input: Tensor) -> Tensor:
        """Normalize [B, C, H, W]."""
        if not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            x = input.to(torch.promote_types(input.dtype, torch.float32))
            count = self.group.world_size * x.numel() // x.shape[1]
            mean_C = self.group.all_reduce_sum_with_grad(x.sum((0, 2, 3))) / count
            centered = x - mean_C[:, None, None]
            variance_C = self.group.all_reduce_sum_with_grad(centered.square().sum((0, 2, 3))) / count
            self._update_running_stats(mean_C.detach(), variance_C.detach() * (count / max(1, count - 1)))
            scale_C = self.weight * torch.rsqrt(variance_C + self.eps)
            return (centered * scale_C[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _update_running_stats(self, mean_C: Tensor, variance_C: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(variance_C, self.momentum)


class FrozenStatistics(nn.Module):
    """Mixin of batch norms that stay in inference mode, so that their statistics do not change."""

    def train(self, mode: bool = True) -> "FrozenStatistics":  # noqa: ARG002  # torch's signature
        """Stay in inference mode, whatever `mode` is."""
        return super().train(False)


class FrozenBatchNorm2d(FrozenStatistics, nn.BatchNorm2d):
    """Batch norm with fixed statistics: a small dataset would estimate them worse than the original one."""

    def __init__(self, batch_norm: nn.BatchNorm2d) -> None:
        super().__init__(batch_norm.num_features, eps=batch_norm.eps)
        self.to(batch_norm.weight.device)
        self.load_state_dict(batch_norm.state_dict())
        self.eval()


def freeze_batchnorm(module: nn.Module) -> None:
    """Fix the statistics of every batch norm below a module."""
    replace_batchnorm(module, FrozenBatchNorm2d)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and not isinstance(child, FrozenStatistics):
            # Libraries have subclasses with an activation. They keep their forward pass and the names of parameters.
            child.__class__ = type(f"Frozen{type(child).__name__}", (FrozenStatistics, type(child)), {})
            child.eval()


def replace_batchnorm(module: nn.Module, build: Callable[[nn.BatchNorm2d], nn.BatchNorm2d]) -> None:
    """Replace every plain batch norm below a module by what `build` makes of it; frozen ones stay as they are."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, build(child))
        else:
            replace_batchnorm(child, build)
