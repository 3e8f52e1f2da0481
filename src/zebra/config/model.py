"""Model architecture: two towers and their embeddings (CLIP §2.4, Tables 19–20)."""

from dataclasses import dataclass

from zebra.config.image_towers import ImageTowerConfig, NaflexVisionConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.text_towers import BertTextConfig, SiglipTextConfig, TextTowerConfig
from zebra.config.transformer import MAX_IMAGE_SIZE, MAX_WIDTH, require_divisible, require_in_range
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Architecture of a CLIP model: two towers and the embedding dimension."""

    embed_dim: int
    """Embedding dimension E."""
    image_size: int
    """Side of the square input image in pixels."""
    vision: ImageTowerConfig
    """The image tower."""
    text: TextTowerConfig
    """The text tower."""
    logit_bias: bool = False
    """Add a learned bias to the logits, as the sigmoid loss requires."""
    dimensions: tuple[int, ...] = ()
    """Smaller sizes of the vectors, ascending: their first components were trained as vectors too (Matryoshka)."""

    def __post_init__(self) -> None:
        require_in_range("model.embed_dim", self.embed_dim, MAX_WIDTH)
        require_in_range("model.image_size", self.image_size, MAX_IMAGE_SIZE)
        if list(self.dimensions) != sorted({size for size in self.dimensions if 0 < size < self.embed_dim}):
            raise ConfigError(
                f"model.dimensions is {', '.join(map(str, self.dimensions))}; give different sizes in ascending order, "
                f"each at least 1 and below embed_dim ({self.embed_dim})"
            )
        self.vision.check_image_size(self.image_size)
        if isinstance(self.vision, SiglipVisionConfig | NaflexVisionConfig) and self.vision.width != self.embed_dim:
            raise ConfigError(
                f"model: embed_dim is {self.embed_dim}; a SigLIP image tower has no projection, so it must equal "
                f"vision.width ({self.vision.width})"
            )
        if isinstance(self.vision, VisionTransformerConfig) and self.vision.pooling == "attention":
            require_divisible("model", "embed_dim", self.embed_dim, "vision.pooling_heads", self.vision.pooling_heads)
        is_unprojected = isinstance(self.text, BertTextConfig | SiglipTextConfig) and self.text.projection == "none"
        if is_unprojected and self.text.width != self.embed_dim:
            raise ConfigError(
                f"model: embed_dim is {self.embed_dim}; a text tower without a projection has the dimension of its "
                f"width, model.text.width ({self.text.width})"
            )

    @property
    def libraries(self) -> tuple[str, ...]:
        """Return the names of the other libraries that compute a tower, sorted."""
        return tuple(sorted({self.vision.library, self.text.library} - {"zebra"}))
