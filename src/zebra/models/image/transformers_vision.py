"""Image towers that Hugging Face transformers computes."""

from torch import Tensor

from zebra.config.transformers_towers import TransformersVisionConfig
from zebra.models.transformers_encoder import build_encoder, build_projection, pool
from zebra.models.transformers_tower import TransformersTower


class TransformersVision(TransformersTower):
    """An image encoder of the library (`trunk`), pooled and projected (`proj`).

    Names of tensors below `trunk` are those of the library's model.
    """

    encoder_name = "trunk"

    def __init__(self, config: TransformersVisionConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.trunk = build_encoder(config)
        self.proj = build_projection(
            config.projection, config.width, config.projection_width, embed_dim, config.config_path
        )

    def features(self, images_B3HW: Tensor) -> Tensor:
        """Return the pooled features [B, D] of normalized pixels."""
        return pool(self.trunk(pixel_values=images_B3HW), self.config.pooling)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return embeddings [B, E], not yet of unit length."""
        return self.project(self.features(images_B3HW))

    def project(self, feature_BD: Tensor) -> Tensor:
        """Return the embeddings [B, E] of features."""
        return self.proj(feature_BD)
