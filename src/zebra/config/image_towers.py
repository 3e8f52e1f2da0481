"""Settings of the image towers (CLIP §2.4, Tables 19–20)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from zebra.config.timm_tower import TimmVisionConfig
from zebra.config.transformer import (
    MAX_IMAGE_SIZE,
    MAX_LAYERS,
    MAX_TOKENS,
    MAX_WIDTH,
    Activation,
    TransformerConfig,
    require_divisible,
    require_in_range,
)
from zebra.config.transformers_towers import TransformersVisionConfig
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionTransformerConfig(TransformerConfig):
    """A Vision Transformer image tower with a class token; the defaults are those of CLIP."""

    config_path: ClassVar[str] = "model.vision"
    kind: Literal["vit"] = "vit"
    """Identifies the tower family in YAML and JSON."""
    patch_size: int
    """Patch side in pixels."""
    patch_bias: bool = False
    """Add a bias to the patch embedding, as in ViTs that were not made for CLIP."""
    pre_norm: bool = True
    """Normalize the tokens before the blocks."""
    pooling: Literal["class", "mean", "attention"] = "class"
    """Pooling: the class token, the mean of the patches (CLIPA), or cross-attention with one query (CoCa)."""
    pooling_heads: int = 8
    """Attention heads of the attention pooling, whose width is embed_dim."""
    projection_bias: bool = False
    """Add a bias to the projection."""

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError unless the image size is a multiple of the patch size."""
        require_divisible("model", "image_size", size, "vision.patch_size", self.patch_size)
        require_in_range("model: the number of patches", (size // self.patch_size) ** 2, MAX_TOKENS)

    def describe(self, image_size: int) -> str:
        """Return the settings in words."""
        pooling = {
            "class": "",
            "mean": ", mean pooling",
            "attention": f", attention pooling of {self.pooling_heads} heads",
        }
        flags = "".join(
            [
                "" if self.pre_norm else ", no norm before the blocks",
                ", patch bias" if self.patch_bias else "",
                pooling[self.pooling],
                ", projection bias" if self.projection_bias else "",
            ]
        )
        return f"{self.kind}, {self.describe_blocks()}; patches of {self.patch_size} in {image_size} px{flags}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SiglipVisionConfig(TransformerConfig):
    """SigLIP's image tower: no class token, attention pooling with a learned query; width equals embed_dim."""

    config_path: ClassVar[str] = "model.vision"
    kind: Literal["siglip"] = "siglip"
    """Identifies the tower family in YAML and JSON."""
    patch_size: int
    """Patch side in pixels; incomplete patches at the right and lower edge are dropped."""
    activation: Activation = "gelu_tanh"
    """Activation of the MLPs."""
    norm_eps: float = 1e-6
    """Epsilon of the layer norms."""

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError if the image is smaller than a patch."""
        require_in_range("model.vision.patch_size", self.patch_size, MAX_IMAGE_SIZE)
        if size < self.patch_size:
            raise ConfigError(f"model: image_size {size} is smaller than vision.patch_size {self.patch_size}")
        require_in_range("model: the number of patches", (size // self.patch_size) ** 2, MAX_TOKENS)

    def describe(self, image_size: int) -> str:
        """Return the settings in words."""
        return f"{self.kind}, {self.describe_blocks()}; patches of {self.patch_size} in {image_size} px"


@dataclass(frozen=True, kw_only=True, slots=True)
class NaflexVisionConfig(TransformerConfig):
    """SigLIP 2's NaFlex image tower: images of any aspect ratio; attention pooling; width equals embed_dim.

    `image_size` of the model is the side of the square image whose patches have the stored positions.
    """

    config_path: ClassVar[str] = "model.vision"
    kind: Literal["naflex"] = "naflex"
    """Identifies the tower family in YAML and JSON."""
    patch_size: int
    """Patch side in pixels."""
    activation: Activation = "gelu_tanh"
    """Activation of the MLPs."""
    norm_eps: float = 1e-6
    """Epsilon of the layer norms."""

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError unless the image size is a multiple of the patch size."""
        require_divisible("model", "image_size", size, "vision.patch_size", self.patch_size)
        require_in_range("model: the number of patches", (size // self.patch_size) ** 2, MAX_TOKENS)

    def describe(self, image_size: int) -> str:
        """Return the settings in words."""
        side = image_size // self.patch_size
        return f"{self.kind}, {self.describe_blocks()}; patches of {self.patch_size}, positions of {side} × {side}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetConfig:
    """A modified ResNet image tower: three-convolution stem, anti-aliased strides, attention pooling."""

    kind: Literal["resnet"] = "resnet"
    """Identifies the tower family in YAML and JSON."""
    library: ClassVar[str] = "zebra"
    """The library that computes the tower."""
    width: int
    """Channels after the stem; the last stage has 32 × width."""
    layers: tuple[int, int, int, int]
    """Bottleneck blocks per stage."""
    heads: int
    """Heads of the attention pooling; the published models use width / 2."""

    def __post_init__(self) -> None:
        require_in_range("model.vision.width", self.width, MAX_WIDTH // 32)
        for stage, layers in enumerate(self.layers):
            require_in_range(f"model.vision.layers[{stage}]", layers, MAX_LAYERS)
        require_divisible("model.vision", "32 × width", 32 * self.width, "heads", self.heads)
        require_divisible("model.vision", "width", self.width, "the stem's halving", 2)

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError unless the image size is a multiple of the tower's stride."""
        require_divisible("model", "image_size", size, "the tower's stride", 32)

    @property
    def num_blocks(self) -> int:
        """Return the number of bottleneck blocks."""
        return sum(self.layers)

    def describe(self, image_size: int) -> str:
        """Return the settings in words."""
        return f"modified ResNet, blocks {self.layers}, width {self.width}, {image_size} px"


ImageTowerConfig = (
    VisionTransformerConfig
    | ResNetConfig
    | SiglipVisionConfig
    | NaflexVisionConfig
    | TimmVisionConfig
    | TransformersVisionConfig
)
"""Any image tower; `kind` tells them apart in YAML and JSON."""
