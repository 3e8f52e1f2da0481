"""What a CLIP model is made of: the two towers and the space they share (CLIP §2.4, Tables 19–20)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from zebra.errors import ConfigError

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """What every transformer tower is made of, image or text."""

    config_path: ClassVar[str] = "model"
    """The tower's place in a config, for errors."""
    width: int
    """Channels of a token."""
    layers: int
    """Residual blocks."""
    heads: int
    """Attention heads; OpenAI's models use width / 64."""
    mlp_width: int | None = None
    """Channels inside the MLPs; 4 × width if not given."""
    activation: Activation = "quick_gelu"
    """Of the MLPs; OpenAI's weights need quick_gelu, SigLIP's gelu_tanh."""
    norm_eps: float = 1e-5
    """Added to the variance in layer norms."""

    def __post_init__(self) -> None:
        _require_divisible(self.config_path, "width", self.width, "heads", self.heads)
        if self.layers < 1:
            raise ConfigError(f"{self.config_path}: layers is {self.layers}; it must be at least 1")
        if self.hidden < 1:
            raise ConfigError(f"{self.config_path}: mlp_width is {self.mlp_width}; it must be at least 1")

    @property
    def hidden(self) -> int:
        """Channels inside the MLPs."""
        return 4 * self.width if self.mlp_width is None else self.mlp_width


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionTransformerConfig(TransformerConfig):
    """A Vision Transformer image tower, pooled at its class token."""

    config_path: ClassVar[str] = "model.vision"
    kind: Literal["vit"] = "vit"
    """Marks the tower's family in YAML and JSON."""
    patch_size: int
    """Side of a square patch, in pixels."""

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError unless patches tile the image."""
        _require_divisible("model", "image_size", size, "vision.patch_size", self.patch_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class SiglipVisionConfig(TransformerConfig):
    """SigLIP's image tower: no class token, pooled by attention with a learned query; its width is embed_dim."""

    config_path: ClassVar[str] = "model.vision"
    kind: Literal["siglip"] = "siglip"
    """Marks the tower's family in YAML and JSON."""
    patch_size: int
    """Side of a square patch, in pixels; pixels at the right and lower edge that fill no patch are left out."""
    activation: Activation = "gelu_tanh"
    """Of the MLPs."""
    norm_eps: float = 1e-6
    """Added to the variance in layer norms."""

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError if the image is smaller than a patch."""
        if size < self.patch_size:
            raise ConfigError(f"model: image_size {size} is smaller than vision.patch_size {self.patch_size}")


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
class TextConfig(TransformerConfig):
    """The causal text transformer, pooled where the text ends."""

    config_path: ClassVar[str] = "model.text"
    kind: Literal["causal"] = "causal"
    """Marks the tower's family in YAML and JSON."""
    vocab_size: int = 49_408
    """Ids of the tokenizer; training a vocabulary sets this to what the captions gave."""
    context_length: int = 77
    """Longest text in tokens, start and end included."""

    def __post_init__(self) -> None:
        TransformerConfig.__post_init__(self)
        if self.context_length < 3:
            raise ConfigError(
                f"model.text.context_length is {self.context_length}; a text needs at least 3 tokens: "
                "start, one token, end"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SiglipTextConfig(TransformerConfig):
    """SigLIP's text transformer: every text padded to one length, every token sees all, pooled at the last."""

    config_path: ClassVar[str] = "model.text"
    kind: Literal["siglip"] = "siglip"
    """Marks the tower's family in YAML and JSON."""
    vocab_size: int = 32_000
    """Ids of the tokenizer."""
    context_length: int = 64
    """Tokens of every text, padding included."""
    activation: Activation = "gelu_tanh"
    """Of the MLPs."""
    norm_eps: float = 1e-6
    """Added to the variance in layer norms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Two towers and the width of the space they meet in."""

    embed_dim: int
    """Size E of an embedding."""
    image_size: int
    """Side of the square input, in pixels."""
    vision: VisionTransformerConfig | ResNetConfig | SiglipVisionConfig
    """The image tower."""
    text: TextConfig | SiglipTextConfig
    """The text tower."""
    logit_bias: bool = False
    """Whether a learned bias is added to the similarities, as models trained with the sigmoid loss have it."""

    def __post_init__(self) -> None:
        self.vision.check_image_size(self.image_size)
        if isinstance(self.vision, SiglipVisionConfig) and self.vision.width != self.embed_dim:
            raise ConfigError(
                f"model: embed_dim is {self.embed_dim}, but a SigLIP image tower has no projection: it must be "
                f"vision.width ({self.vision.width})"
            )


def _require_divisible(config_path: str, name: str, value: int, divisor_name: str, divisor: int) -> None:
    if divisor < 1 or value < divisor or value % divisor:
        raise ConfigError(
            f"{config_path}: {name} ({value}) must be a positive multiple of {divisor_name} ({divisor})"
        )
