"""Build the image tower of a config; CLIP and the baselines share it."""

from zebra.config.model import ModelConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.models.image.resnet import ModifiedResNet
from zebra.models.image.siglip import SiglipVision
from zebra.models.image.vit import VisionTransformer
from zebra.models.init import initialize_resnet, initialize_siglip

ImageTower = VisionTransformer | ModifiedResNet | SiglipVision


def build_image_tower(config: ModelConfig) -> ImageTower:
    """Build an image tower with initial weights; it maps pixels [B, 3, H, W] to embeddings [B, E]."""
    if isinstance(config.vision, VisionTransformerConfig):
        return VisionTransformer(config.vision, config.image_size, config.embed_dim)
    if isinstance(config.vision, SiglipVisionConfig):
        siglip = SiglipVision(config.vision, config.image_size)
        initialize_siglip(siglip)
        return siglip
    resnet = ModifiedResNet(config.vision, config.image_size, config.embed_dim)
    initialize_resnet(resnet)
    return resnet
