"""What a CLIP model is made of: the two towers and the space they share (CLIP §2.4, Tables 19–20)."""

from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError

Activation = Literal["quick_gelu", "gelu"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionTransformerConfig:
    """A Vision Transformer image tower."""

    kind: Literal["vit"] = "vit"
    """Marks the tower's family in YAML and JSON."""
    width: int
    """Channels of a token."""
    layers: int
    """Residual blocks."""
    heads: int
    """Attention heads; the published models use width / 64."""
    patch_size: int
    """Side of a square patch, in pixels."""
    activation: Activation = "quick_gelu"
    """Of the MLPs; OpenAI's weights need quick_gelu."""

    def __post_init__(self) -> None:
        _require_divisible("model.vision", "width", self.width, "heads", self.heads)

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError unless patches tile the image."""
        _require_divisible("model", "image_size", size, "vision.patch_size", self.patch_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetConfig:
    """A modified ResNet image tower: 3-convolution stem, anti-aliased strides, attention pooling."""

    kind: Literal["resnet"] = "resnet"
    """Marks the tower's family in YAML and JSON."""
    width: int
    """Channels after the stem; the tower ends with 32 × width."""
    layers: tuple[int, int, int, int]
    """Bottleneck blocks of the four stages."""
    heads: int
    """Attention heads of the pooling; the published models use width / 2."""

    def __post_init__(self) -> None:
        _require_divisible("model.vision", "32 × width", 32 * self.width, "heads", self.heads)
        _require_divisible("model.vision", "width", self.width, "the stem's halving", 2)

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError unless the image shrinks to whole positions."""
        _require_divisible("model", "image_size", size, "the tower's stride", 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """The causal text transformer."""

    width: int
    """Channels of a token."""
    layers: int
    """Residual blocks."""
    heads: int
    """Attention heads; the published models use width / 64."""
    vocab_size: int = 49_408
    """Ids of the tokenizer; training a vocabulary sets this to what the captions gave."""
    context_length: int = 77
    """Longest text in tokens, start and end included."""
    activation: Activation = "quick_gelu"
    """Of the MLPs."""

    def __post_init__(self) -> None:
        _require_divisible("model.text", "width", self.width, "heads", self.heads)
        if self.context_length < 3:
            raise ConfigError(
                f"model.text.context_length is {self.context_length}; a text needs at least 3 tokens: "
                "start, one token, end"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Two towers and the width of the space they meet in."""

    embed_dim: int
    """Size E of an embedding."""
    image_size: int
    """Side of the square input, in pixels."""
    vision: VisionTransformerConfig | ResNetConfig
    """The image tower."""
    text: TextConfig
    """The text tower."""

    def __post_init__(self) -> None:
        self.vision.check_image_size(self.image_size)


def _require_divisible(where: str, name: str, value: int, by: str, divisor: int) -> None:
    if divisor < 1 or value < divisor or value % divisor:
        raise ConfigError(f"{where}: {name} ({value}) must be a positive multiple of {by} ({divisor})")
