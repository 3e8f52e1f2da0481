"""Model architecture: two towers and their embeddings (CLIP §2.4, Tables 19–20)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from zebra.errors import ConfigError

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]

# Limits of several times the largest published models. A config file is refused before memory is allocated for it, and
# no product of sizes overflows.
MAX_WIDTH = 1 << 14
"""Largest width and embedding dimension."""
MAX_LAYERS = 256
"""Largest number of blocks of a transformer, and of a stage of a ResNet."""
MAX_MLP_WIDTH = 1 << 17
MAX_BLOCK_WEIGHTS = 10**11
"""Largest number of weights in the matrices of a tower's blocks."""
MAX_VOCAB_SIZE = 1 << 22
MAX_TOKENS = 1 << 16
"""Largest number of tokens of a text, and of patches of an image."""
MAX_IMAGE_SIZE = 1 << 13
"""Largest side of the input image in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """Settings common to all transformer towers."""

    config_path: ClassVar[str] = "model"
    """The tower's path in a config, for error messages."""
    width: int
    """Model width D: channels per token."""
    layers: int
    """Number of residual blocks."""
    heads: int
    """Number of attention heads; OpenAI's models use width / 64."""
    mlp_width: int | None = None
    """Hidden width of the MLPs; 4 × width by default."""
    activation: Activation = "quick_gelu"
    """Activation of the MLPs; OpenAI's weights need quick_gelu, SigLIP's gelu_tanh."""
    norm_eps: float = 1e-5
    """Epsilon of the layer norms."""

    def __post_init__(self) -> None:
        _require_in_range(f"{self.config_path}.width", self.width, MAX_WIDTH)
        _require_in_range(f"{self.config_path}.layers", self.layers, MAX_LAYERS)
        _require_in_range(f"{self.config_path}.mlp_width", self.hidden, MAX_MLP_WIDTH)
        _require_divisible(self.config_path, "width", self.width, "heads", self.heads)
        num_weights = self.layers * self.width * (4 * self.width + 2 * self.hidden)
        if num_weights > MAX_BLOCK_WEIGHTS:
            raise ConfigError(
                f"{self.config_path}: {self.layers} layers of width {self.width} and mlp_width {self.hidden} have "
                f"{num_weights:,} weights; the limit is {MAX_BLOCK_WEIGHTS:,}"
            )
        if not 0 < self.norm_eps < 1:
            raise ConfigError(f"{self.config_path}.norm_eps is {self.norm_eps}; it must be between 0 and 1")

    @property
    def hidden(self) -> int:
        """Return the hidden width of the MLPs."""
        return 4 * self.width if self.mlp_width is None else self.mlp_width


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionTransformerConfig(TransformerConfig):
    """A Vision Transformer image tower, pooled at the class token."""

    config_path: ClassVar[str] = "model.vision"
    kind: Literal["vit"] = "vit"
    """Identifies the tower family in YAML and JSON."""
    patch_size: int
    """Patch side in pixels."""

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError unless the image size is a multiple of the patch size."""
        _require_divisible("model", "image_size", size, "vision.patch_size", self.patch_size)
        _require_in_range("model: the number of patches", (size // self.patch_size) ** 2, MAX_TOKENS)


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
        _require_in_range("model.vision.patch_size", self.patch_size, MAX_IMAGE_SIZE)
        if size < self.patch_size:
            raise ConfigError(f"model: image_size {size} is smaller than vision.patch_size {self.patch_size}")
        _require_in_range("model: the number of patches", (size // self.patch_size) ** 2, MAX_TOKENS)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetConfig:
    """A modified ResNet image tower: three-convolution stem, anti-aliased strides, attention pooling."""

    kind: Literal["resnet"] = "resnet"
    """Identifies the tower family in YAML and JSON."""
    width: int
    """Channels after the stem; the last stage has 32 × width."""
    layers: tuple[int, int, int, int]
    """Bottleneck blocks per stage."""
    heads: int
    """Heads of the attention pooling; the published models use width / 2."""

    def __post_init__(self) -> None:
        _require_in_range("model.vision.width", self.width, MAX_WIDTH // 32)
        for stage, layers in enumerate(self.layers):
            _require_in_range(f"model.vision.layers[{stage}]", layers, MAX_LAYERS)
        _require_divisible("model.vision", "32 × width", 32 * self.width, "heads", self.heads)
        _require_divisible("model.vision", "width", self.width, "the stem's halving", 2)

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError unless the image size is a multiple of the tower's stride."""
        _require_divisible("model", "image_size", size, "the tower's stride", 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig(TransformerConfig):
    """The causal text transformer, pooled at the end-of-text token."""

    config_path: ClassVar[str] = "model.text"
    kind: Literal["causal"] = "causal"
    """Identifies the tower family in YAML and JSON."""
    vocab_size: int = 49_408
    """Vocabulary size; training a new tokenizer sets it to the size learned from the captions."""
    context_length: int = 77
    """Maximum text length in tokens, including start and end."""

    def __post_init__(self) -> None:
        TransformerConfig.__post_init__(self)
        _require_vocabulary_in_range(self)
        if self.context_length < 3:
            raise ConfigError(
                f"model.text.context_length is {self.context_length}; a text needs at least 3 tokens: "
                "start, one token, end"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SiglipTextConfig(TransformerConfig):
    """SigLIP's text transformer: texts padded to one length, bidirectional attention, pooled at the last position."""

    config_path: ClassVar[str] = "model.text"
    kind: Literal["siglip"] = "siglip"
    """Identifies the tower family in YAML and JSON."""
    vocab_size: int = 32_000
    """Vocabulary size."""
    context_length: int = 64
    """Length of every text in tokens, including padding."""
    activation: Activation = "gelu_tanh"
    """Activation of the MLPs."""
    norm_eps: float = 1e-6
    """Epsilon of the layer norms."""

    def __post_init__(self) -> None:
        TransformerConfig.__post_init__(self)
        _require_vocabulary_in_range(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Architecture of a CLIP model: two towers and the embedding dimension."""

    embed_dim: int
    """Embedding dimension E."""
    image_size: int
    """Side of the square input image in pixels."""
    vision: VisionTransformerConfig | ResNetConfig | SiglipVisionConfig
    """The image tower."""
    text: TextConfig | SiglipTextConfig
    """The text tower."""
    logit_bias: bool = False
    """Add a learned bias to the logits, as the sigmoid loss requires."""

    def __post_init__(self) -> None:
        _require_in_range("model.embed_dim", self.embed_dim, MAX_WIDTH)
        _require_in_range("model.image_size", self.image_size, MAX_IMAGE_SIZE)
        self.vision.check_image_size(self.image_size)
        if isinstance(self.vision, SiglipVisionConfig) and self.vision.width != self.embed_dim:
            raise ConfigError(
                f"model: embed_dim is {self.embed_dim}; a SigLIP image tower has no projection, so it must equal "
                f"vision.width ({self.vision.width})"
            )


def _require_vocabulary_in_range(text: TextConfig | SiglipTextConfig) -> None:
    _require_in_range("model.text.vocab_size", text.vocab_size, MAX_VOCAB_SIZE)
    _require_in_range("model.text.context_length", text.context_length, MAX_TOKENS)


def _require_in_range(name: str, value: int, limit: int) -> None:
    if not 1 <= value <= limit:
        raise ConfigError(f"{name} is {value}; it must be between 1 and {limit:,}")


def _require_divisible(config_path: str, name: str, value: int, divisor_name: str, divisor: int) -> None:
    if divisor < 1 or value < divisor or value % divisor:
        raise ConfigError(f"{config_path}: {name} ({value}) must be a positive multiple of {divisor_name} ({divisor})")
