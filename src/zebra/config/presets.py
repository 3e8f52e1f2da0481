"""Named architectures: the paper's nine (CLIP Tables 19–20) and tiny ones."""

from zebra.config.image_towers import NaflexVisionConfig, ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.errors import ConfigError, suggest_name


def get_preset(name: str) -> ModelConfig:
    """Return the architecture with this name; a ConfigError suggests the closest one."""
    if name not in PRESETS:
        raise ConfigError(f"unknown architecture {name!r}.{suggest_name(name, PRESETS)}")
    return PRESETS[name]


def _resnet(
    embed_dim: int, image_size: int, layers: tuple[int, int, int, int], width: int, text_width: int
) -> ModelConfig:
    return ModelConfig(
        embed_dim=embed_dim,
        image_size=image_size,
        vision=ResNetConfig(width=width, layers=layers, heads=width // 2),
        text=TextConfig(width=text_width, layers=12, heads=text_width // 64),
    )


def _vit(embed_dim: int, image_size: int, layers: int, width: int, patch_size: int, text_width: int) -> ModelConfig:
    return ModelConfig(
        embed_dim=embed_dim,
        image_size=image_size,
        vision=VisionTransformerConfig(width=width, layers=layers, heads=width // 64, patch_size=patch_size),
        text=TextConfig(width=text_width, layers=12, heads=text_width // 64),
    )


# The tokenizer of a tiny model is trained on the user's captions, so vocab_size is an upper bound. The words of a few
# thousand short captions stay whole below it. One layer learns short captions faster than two or three (LOG.md).
_TINY_TEXT = TextConfig(width=128, layers=1, heads=2, vocab_size=8192, context_length=32)

PRESETS: dict[str, ModelConfig] = {
    "RN50": _resnet(1024, 224, (3, 4, 6, 3), 64, 512),
    "RN101": _resnet(512, 224, (3, 4, 23, 3), 64, 512),
    "RN50x4": _resnet(640, 288, (4, 6, 10, 6), 80, 640),
    "RN50x16": _resnet(768, 384, (6, 8, 18, 8), 96, 768),
    "RN50x64": _resnet(1024, 448, (3, 15, 36, 10), 128, 1024),
    "ViT-B/32": _vit(512, 224, 12, 768, 32, 512),
    "ViT-B/16": _vit(512, 224, 12, 768, 16, 512),
    "ViT-L/14": _vit(768, 224, 24, 1024, 14, 768),
    "ViT-L/14@336px": _vit(768, 336, 24, 1024, 14, 768),
    "tiny-resnet": ModelConfig(
        embed_dim=128, image_size=64, vision=ResNetConfig(width=16, layers=(1, 1, 1, 1), heads=8), text=_TINY_TEXT
    ),
    "tiny-vit": ModelConfig(
        embed_dim=128,
        image_size=64,
        vision=VisionTransformerConfig(width=192, layers=4, heads=3, patch_size=8),
        text=_TINY_TEXT,
    ),
    "tiny-naflex": ModelConfig(
        embed_dim=192,
        image_size=64,
        vision=NaflexVisionConfig(width=192, layers=4, heads=3, patch_size=8),
        text=_TINY_TEXT,
    ),
}
