"""Settings of the text towers (CLIP §2.4)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from zebra.config.transformer import MAX_TOKENS, MAX_VOCAB_SIZE, Activation, TransformerConfig, require_in_range
from zebra.config.transformers_towers import TransformersTextConfig
from zebra.errors import ConfigError

BertPooling = Literal["cls", "pooler", "mean"]
BertProjection = Literal["none", "linear", "mlp"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig(TransformerConfig):
    """The causal text transformer, pooled at the end-of-text token, by default the largest id of a text."""

    config_path: ClassVar[str] = "model.text"
    kind: Literal["causal"] = "causal"
    """Identifies the tower family in YAML and JSON."""
    vocab_size: int = 49_408
    """Vocabulary size; training a new tokenizer sets it to the size learned from the captions."""
    context_length: int = 77
    """Maximum text length in tokens, including start and end."""
    eos_id: int | None = None
    """Id of the end-of-text token, where it is not the largest id of every text (MetaCLIP 2)."""

    def __post_init__(self) -> None:
        TransformerConfig.__post_init__(self)
        _require_vocabulary_in_range(self)
        if self.eos_id is not None and not 0 <= self.eos_id < self.vocab_size:
            raise ConfigError(f"model.text.eos_id is {self.eos_id}; it must be an id below {self.vocab_size:,}")
        if self.context_length < 3:
            raise ConfigError(
                f"model.text.context_length is {self.context_length}; a text needs at least 3 tokens: "
                "start, one token, end"
            )

    def describe(self) -> str:
        """Return the settings in words."""
        pool = "" if self.eos_id is None else f", pooled at id {self.eos_id}"
        return f"{self.kind}, {self.describe_blocks()}; {self.vocab_size:,} ids, {self.context_length} tokens{pool}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SiglipTextConfig(TransformerConfig):
    """A bidirectional text transformer over texts padded to one length; the defaults are those of SigLIP."""

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
    pooling: Literal["last", "argmax"] = "last"
    """Pooling: the last position, or the largest id, which is the end token of CLIP's tokenizer (MobileCLIP)."""
    projection: Literal["linear", "none"] = "linear"
    """Projection to the embedding; none needs a width equal to embed_dim."""
    projection_bias: bool = True
    """Add a bias to the projection; CLIPA and MobileCLIP do not."""

    def __post_init__(self) -> None:
        TransformerConfig.__post_init__(self)
        _require_vocabulary_in_range(self)

    def describe(self) -> str:
        """Return the settings in words."""
        pool = "" if self.pooling == "last" else ", pooled at the largest id"
        projection = "" if self.projection_bias else ", projection without bias"
        projection = ", no projection" if self.projection == "none" else projection
        tokens = f"{self.vocab_size:,} ids, {self.context_length} tokens"
        return f"{self.kind}, {self.describe_blocks()}; {tokens}{pool}{projection}"


@dataclass(frozen=True, kw_only=True, slots=True)
class BertTextConfig(TransformerConfig):
    """A bidirectional post-norm transformer: BERT, RoBERTa, XLM-R and DistilBERT (arXiv 1810.04805, 1907.11692)."""

    config_path: ClassVar[str] = "model.text"
    kind: Literal["bert"] = "bert"
    """Identifies the tower family in YAML and JSON."""
    vocab_size: int
    """Vocabulary size."""
    context_length: int
    """Maximum text length in tokens, including start and end: the number of positions."""
    pad_id: int = 0
    """The id that pads texts on the right; no text contains it."""
    activation: Activation = "gelu"
    """Activation of the MLPs."""
    norm_eps: float = 1e-12
    """Epsilon of the layer norms; RoBERTa and XLM-R use 1e-5."""
    pooling: BertPooling = "mean"
    """The vector of a text: its first token (cls), that token through BERT's dense layer with tanh (pooler), or the
    mean of its tokens."""
    projection: BertProjection = "linear"
    """none; linear; or mlp: two linear layers with (width + embed_dim) // 2 channels and GELU in between."""
    projection_bias: bool = False
    """Add a bias to the linear projection."""
    projection_norm: bool = False
    """Apply a layer norm before the projection."""

    def __post_init__(self) -> None:
        TransformerConfig.__post_init__(self)
        _require_vocabulary_in_range(self)
        if not 0 <= self.pad_id < self.vocab_size:
            raise ConfigError(f"model.text.pad_id is {self.pad_id}; it must be between 0 and {self.vocab_size - 1}")
        if self.projection_bias and self.projection != "linear":
            raise ConfigError(
                f"model.text.projection_bias is true, but the projection is {self.projection}. Set it to false, or the "
                "projection to linear."
            )

    def describe(self) -> str:
        """Return the settings in words."""
        return (
            f"{self.kind}, {self.describe_blocks()}; {self.vocab_size:,} ids, {self.context_length} tokens; pooling "
            f"{self.pooling}, projection {self.projection}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CocaTextConfig(TransformerConfig):
    """CoCa's text encoder: causal, with a class token after the padded text, where it is pooled."""

    config_path: ClassVar[str] = "model.text"
    kind: Literal["coca"] = "coca"
    """Identifies the tower family in YAML and JSON."""
    vocab_size: int = 49_408
    """Vocabulary size."""
    context_length: int = 76
    """Maximum text length in tokens, without the class token."""

    def __post_init__(self) -> None:
        TransformerConfig.__post_init__(self)
        _require_vocabulary_in_range(self)

    def describe(self) -> str:
        """Return the settings in words."""
        tokens = f"{self.vocab_size:,} ids, {self.context_length} tokens and a class token"
        return f"{self.kind}, {self.describe_blocks()}; {tokens}"


TextTowerConfig = TextConfig | SiglipTextConfig | BertTextConfig | CocaTextConfig | TransformersTextConfig
"""Any text tower; `kind` tells them apart in YAML and JSON."""


def _require_vocabulary_in_range(text: TextTowerConfig) -> None:
    require_in_range("model.text.vocab_size", text.vocab_size, MAX_VOCAB_SIZE)
    require_in_range("model.text.context_length", text.context_length, MAX_TOKENS)
