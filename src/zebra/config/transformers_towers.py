"""Settings of towers that Hugging Face transformers computes."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from zebra.config.transformer import (
    MAX_IMAGE_SIZE,
    MAX_LAYERS,
    MAX_MLP_WIDTH,
    MAX_TOKENS,
    MAX_VOCAB_SIZE,
    MAX_WIDTH,
    require_in_range,
)
from zebra.errors import ConfigError, show_value

MAX_NESTING = 4
"""Largest depth of mappings and lists in the settings of an encoder."""
_COUNT_KEY = re.compile("layers|depth|repeats")
"""Names of settings that count blocks."""

_WIDTH_KEYS = ("hidden_size", "d_model", "hidden_dim")
_LAYERS_KEYS = ("num_hidden_layers", "encoder_layers", "num_layers")
"""The library's names of the same setting in different encoders; the first one that exists counts."""

EncoderPooling = Literal["pooler", "first", "mean"]
"""pooler is the library's own pooling, first the first token, mean the average of the tokens that are no padding."""
EncoderProjection = Literal["none", "linear", "linear_bias", "mlp", "batch_norm_mlp"]
"""mlp is two linear layers without bias and GELU; batch_norm_mlp has biases, batch norm and ReLU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformersTowerConfig:
    """An encoder of transformers, pooled and projected."""

    config_path: ClassVar[str] = "model"
    """The tower's path in a config, for error messages."""
    library: ClassVar[str] = "transformers"
    """The library that computes the tower."""
    kind: Literal["transformers"] = "transformers"
    """Identifies the tower family in YAML and JSON."""
    settings: Mapping[str, Any]
    """The library's config of the encoder, complete, with `model_type`."""
    pooling: EncoderPooling
    """How the hidden states become one vector."""
    projection: EncoderProjection
    """The layers between the pooled features and the embedding."""
    projection_width: int | None = None
    """Hidden width of an mlp or batch_norm_mlp."""

    def __post_init__(self) -> None:
        path = self.config_path
        model_type = self.settings.get("model_type")
        if not isinstance(model_type, str):
            raise ConfigError(f"{path}.settings.model_type is {show_value(model_type)}; it must name an encoder")
        require_bounded_settings(self.settings, f"{path}.settings")
        require_in_range(f"{path}.width", self.width, MAX_WIDTH)
        require_in_range(f"{path}.num_blocks", self.num_blocks, MAX_LAYERS)
        if self.projection_width is not None:
            require_in_range(f"{path}.projection_width", self.projection_width, MAX_MLP_WIDTH)
        if (self.projection in ("mlp", "batch_norm_mlp")) != (self.projection_width is not None):
            raise ConfigError(
                f"{path}.projection_width is {self.projection_width} with the projection {self.projection}; set it "
                "for mlp and batch_norm_mlp, and only for them"
            )

    @property
    def model_type(self) -> str:
        """Return the library's name of the encoder."""
        return str(self.settings["model_type"])

    @property
    def width(self) -> int:
        """Return the width D of the pooled features."""
        return self._require_int(_WIDTH_KEYS)

    @property
    def num_blocks(self) -> int:
        """Return the number of the encoder's blocks; EfficientNet's, in ALIGN, follows from its stages."""
        repeats, depth = self.settings.get("num_block_repeats"), self.settings.get("depth_coefficient")
        if isinstance(repeats, list) and isinstance(depth, int | float):
            return sum(math.ceil(depth * number) for number in repeats if isinstance(number, int))
        return self._require_int(_LAYERS_KEYS)

    def _require_int(self, keys: tuple[str, ...]) -> int:
        value = next((self.settings[key] for key in keys if key in self.settings), None)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(
                f"{self.config_path}.settings: {' or '.join(keys)} is {show_value(value)}; it must be an integer"
            )
        return value

    def describe_encoder(self) -> str:
        """Return the settings in words."""
        return f"{self.model_type} of transformers, {self.num_blocks} layers, features of width {self.width}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformersVisionConfig(TransformersTowerConfig):
    """An image encoder of transformers."""

    config_path: ClassVar[str] = "model.vision"

    def check_image_size(self, size: int) -> None:
        """Raise ConfigError if the encoder has positions for another image size."""
        require_in_range("model.image_size", size, MAX_IMAGE_SIZE)
        trained = self.settings.get("image_size", size)
        if trained not in (size, [size, size], (size, size)):
            raise ConfigError(
                f"model: image_size is {size}, but the {self.model_type} has positions for {show_value(trained)} pixels"
            )

    def describe(self, image_size: int) -> str:
        """Return the settings in words."""
        return f"{self.describe_encoder()}; {image_size} px"


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformersTextConfig(TransformersTowerConfig):
    """A text encoder of transformers."""

    config_path: ClassVar[str] = "model.text"
    vocab_size: int
    """Vocabulary size."""
    context_length: int
    """Maximum text length in tokens, including start and end."""
    pad_id: int | None
    """The padding token, which is not attended to. None: causal attention, and a text ends at its largest id."""

    def __post_init__(self) -> None:
        TransformersTowerConfig.__post_init__(self)
        require_in_range("model.text.vocab_size", self.vocab_size, MAX_VOCAB_SIZE)
        require_in_range("model.text.context_length", self.context_length, MAX_TOKENS)
        if self.pad_id is not None and not 0 <= self.pad_id < self.vocab_size:
            raise ConfigError(f"model.text.pad_id is {self.pad_id}; it must be below vocab_size ({self.vocab_size})")
        if self.pad_id is None and self.pooling == "mean":
            raise ConfigError("model.text.pooling is mean, which needs the pad_id")

    def describe(self) -> str:
        """Return the settings in words."""
        return f"{self.describe_encoder()}; {self.vocab_size:,} ids, {self.context_length} tokens"


def require_bounded_settings(settings: object, path: str, depth: int = 0) -> None:
    """Raise ConfigError for a number or a list that would take memory or time before any tensor is compared."""
    if depth > MAX_NESTING:
        raise ConfigError(f"{path} is nested too deeply")
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            require_bounded_settings(value, f"{path}.{str(key)[:100]}", depth + 1)
    elif isinstance(settings, list | tuple):
        if len(settings) > MAX_LAYERS:
            raise ConfigError(f"{path} has {len(settings)} entries; the limit is {MAX_LAYERS}")
        for value in settings:
            require_bounded_settings(value, path, depth + 1)
    elif isinstance(settings, int | float):
        limit = MAX_LAYERS if _COUNT_KEY.search(path.rpartition(".")[2]) else MAX_VOCAB_SIZE
        if not abs(settings) <= limit:  # also true for NaN
            raise ConfigError(f"{path} is {show_value(settings)}; the limit is {limit:,}")
