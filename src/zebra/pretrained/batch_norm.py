"""Fusion of batch norms with convolutions for inference."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from zebra.models.image.resnet import Bottleneck, ModifiedResNet


def fuse_batch_norms(tower: ModifiedResNet) -> None:
    """Multiply the weights of each convolution by the scale of its batch norm, in place; for inference only.

    In evaluation mode a batch norm is a scale and a bias per channel. The result differs by rounding.
    """
    for module in tower.modules():
        if isinstance(module, ModifiedResNet | Bottleneck):
            for index in (1, 2, 3):
                _fuse(module, f"conv{index}", f"bn{index}")
            if isinstance(module, Bottleneck) and isinstance(module.downsample, nn.Sequential):
                _fuse(module.downsample, "0", "1")


def _fuse(parent: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = parent.get_submodule(conv_name), parent.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    fused = fuse_conv_bn_eval(conv, norm)
    setattr(parent, conv_name, fused.requires_grad_(False))
    setattr(parent, norm_name, nn.Identity())
