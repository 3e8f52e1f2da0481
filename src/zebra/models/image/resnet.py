"""The modified ResNet image tower (CLIP §2.4).

Three changes to ResNet-D: a stem of three 3×3 convolutions with average pooling, average pooling before strides
(anti-aliasing), and attention pooling with the mean of all positions as the query.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.config.image_towers import ResNetConfig


class Bottleneck(nn.Module):
    """A bottleneck of 1×1, 3×3, 1×1 convolutions; an average pool replaces the stride."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.avgpool: nn.Module = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            # "-1" is the name of the pooling in the published checkpoints; it has no weights.
            self.downsample = nn.Sequential(
                OrderedDict[str, nn.Module](
                    [
                        ("-1", nn.AvgPool2d(stride)),
                        ("0", nn.Conv2d(in_channels, out_channels, 1, bias=False)),
                        ("1", nn.BatchNorm2d(out_channels)),
                    ]
                )
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return [B, 4·channels, H/stride, W/stride]."""
        out = F.relu(self.bn1(self.conv1(x_BCHW)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(self.avgpool(out)))
        return F.relu(out + self.downsample(x_BCHW), inplace=True)


class AttentionPool2d(nn.Module):
    """Attention pooling with the mean of all positions as the only query."""

    def __init__(self, num_positions: int, width: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(num_positions + 1, width).normal_(std=width**-0.5))
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed_dim)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the pooled vector [B, C] before the output projection."""
        x_BPC = x_BCHW.flatten(2).transpose(1, 2)
        x_BLC = torch.cat([x_BPC.mean(dim=1, keepdim=True), x_BPC], dim=1) + self.positional_embedding
        B, _, C = x_BLC.shape

        def split(y: Tensor) -> Tensor:
            return y.view(B, -1, self.heads, C // self.heads).transpose(1, 2)

        query = split(self.q_proj(x_BLC[:, :1]))
        pooled = F.scaled_dot_product_attention(query, split(self.k_proj(x_BLC)), split(self.v_proj(x_BLC)))
        return pooled.transpose(1, 2).reshape(B, C)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return embeddings [B, E]."""
        return self.c_proj(self.features(x_BCHW))


class ModifiedResNet(nn.Module):
    """The paper's ResNet: stem, four stages of bottlenecks, attention pooling."""

    def __init__(self, config: ResNetConfig, image_size: int, embed_dim: int) -> None:
        super().__init__()
        width = config.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        self.layer1 = _make_stage(width, width, config.layers[0], stride=1)
        self.layer2 = _make_stage(4 * width, 2 * width, config.layers[1], stride=2)
        self.layer3 = _make_stage(8 * width, 4 * width, config.layers[2], stride=2)
        self.layer4 = _make_stage(16 * width, 8 * width, config.layers[3], stride=2)
        self.attnpool = AttentionPool2d((image_size // 32) ** 2, 32 * width, config.heads, embed_dim)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.4 × faster on CPU

    def _feature_map(self, images_B3HW: Tensor) -> Tensor:
        images_B3HW = images_B3HW.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.bn1(self.conv1(images_B3HW)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = self.avgpool(F.relu(self.bn3(self.conv3(x)), inplace=True))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def features(self, images_B3HW: Tensor) -> Tensor:
        """Return the attention pool [B, 32·width] before its output projection, the paper's probe features."""
        return self.attnpool.features(self._feature_map(images_B3HW))

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return embeddings [B, E], not yet of unit length."""
        return self.attnpool(self._feature_map(images_B3HW))

    def project(self, feature_BC: Tensor) -> Tensor:
        """Return the embeddings [B, E] of features."""
        embedding_BE: Tensor = self.attnpool.c_proj(feature_BC)
        return embedding_BE


def _make_stage(in_channels: int, channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(in_channels, channels, stride)
    rest = (Bottleneck(channels * Bottleneck.expansion, channels, 1) for _ in range(num_blocks - 1))
    return nn.Sequential(first, *rest)
