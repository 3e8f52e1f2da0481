"""Settings that all transformer towers share, and the limits of model settings."""

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
    library: ClassVar[str] = "zebra"
    """The library that computes the tower."""
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
        require_in_range(f"{self.config_path}.width", self.width, MAX_WIDTH)
        require_in_range(f"{self.config_path}.layers", self.layers, MAX_LAYERS)
        require_in_range(f"{self.config_path}.mlp_width", self.hidden, MAX_MLP_WIDTH)
        require_divisible(self.config_path, "width", self.width, "heads", self.heads)
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

    @property
    def num_blocks(self) -> int:
        """Return the number of residual blocks."""
        return self.layers

    def describe_blocks(self) -> str:
        """Return the settings of the blocks in words."""
        return f"{self.layers} layers of width {self.width}, {self.heads} heads, MLP {self.hidden}, {self.activation}"


def require_in_range(name: str, value: int, limit: int) -> None:
    """Raise ConfigError unless 1 ≤ value ≤ limit."""
    if not 1 <= value <= limit:
        raise ConfigError(f"{name} is {value}; it must be between 1 and {limit:,}")


def require_divisible(config_path: str, name: str, value: int, divisor_name: str, divisor: int) -> None:
    """Raise ConfigError unless the value is a positive multiple of the divisor."""
    if divisor < 1 or value < divisor or value % divisor:
        raise ConfigError(f"{config_path}: {name} ({value}) must be a positive multiple of {divisor_name} ({divisor})")
