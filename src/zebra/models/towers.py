"""Construction of the towers of a config.

A new kind of tower needs a case here.
"""

from zebra.config.image_towers import NaflexVisionConfig, ResNetConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import BertTextConfig, CocaTextConfig, SiglipTextConfig, TextConfig
from zebra.config.timm_tower import TimmVisionConfig
from zebra.config.transformers_towers import TransformersTextConfig, TransformersVisionConfig
from zebra.models.image.naflex import NaflexVision
from zebra.models.image.resnet import ModifiedResNet
from zebra.models.image.siglip import SiglipVision
from zebra.models.image.timm_tower import TimmImageTower
from zebra.models.image.transformers_vision import TransformersVision
from zebra.models.image.vit import VisionTransformer
from zebra.models.init import initialize_bert, initialize_resnet, initialize_siglip, initialize_text
from zebra.models.text.bert import BertText
from zebra.models.text.causal import TextTransformer
from zebra.models.text.coca import CocaText
from zebra.models.text.siglip import SiglipText
from zebra.models.text.transformers_text import TransformersText

ImageTower = VisionTransformer | ModifiedResNet | SiglipVision | NaflexVision | TimmImageTower | TransformersVision
"""Maps normalized pixels [B, 3, H, W], or for NaFlex a `PatchBatch`, to embeddings [B, E].

Besides `forward`, an image tower has `features(images)`, the vectors [B, D] before the projection, and
`project(features)`.
"""
TextTower = TextTransformer | SiglipText | BertText | CocaText | TransformersText
"""Maps token ids, int64 [B, L], to embeddings [B, E].

Besides `forward`, a text tower has `context_length`, the largest L, and `inference_batches(tokens_NL)`, the split of
texts into batches, as indices.
"""


def build_image_tower(config: ModelConfig) -> ImageTower:
    """Build an image tower with initial weights."""
    match config.vision:
        case VisionTransformerConfig():
            return VisionTransformer(config.vision, config.image_size, config.embed_dim)
        case SiglipVisionConfig():
            siglip = SiglipVision(config.vision, config.image_size)
            initialize_siglip(siglip)
            return siglip
        case NaflexVisionConfig():
            naflex = NaflexVision(config.vision, config.image_size)
            initialize_siglip(naflex)
            return naflex
        case ResNetConfig():
            resnet = ModifiedResNet(config.vision, config.image_size, config.embed_dim)
            initialize_resnet(resnet)
            return resnet
        case TimmVisionConfig():
            return TimmImageTower(config.vision, config.image_size, config.embed_dim)
        case TransformersVisionConfig():
            return TransformersVision(config.vision, config.embed_dim)


def build_text_tower(config: ModelConfig) -> TextTower:
    """Build a text tower with initial weights."""
    match config.text:
        case TextConfig():
            causal = TextTransformer(config.text, config.embed_dim)
            initialize_text(causal)
            return causal
        case CocaTextConfig():
            coca = CocaText(config.text, config.embed_dim)
            initialize_text(coca)
            return coca
        case SiglipTextConfig():
            siglip = SiglipText(config.text, config.embed_dim)
            initialize_siglip(siglip)
            return siglip
        case BertTextConfig():
            bert = BertText(config.text, config.embed_dim)
            initialize_bert(bert)
            return bert
        case TransformersTextConfig():
            return TransformersText(config.text, config.embed_dim)
