"""How many floating-point operations a forward pass takes: an architecture and the layout of its texts in, a count out.

A multiply-add is two operations. Products and convolutions count, and nothing else: norms, activations and softmax are
memory traffic. A training step counts three times its forward pass, what is computed again not at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from zebra.config.model import (
    ModelConfig,
    ResNetConfig,
    TextConfig,
    TransformerConfig,
    VisionTransformerConfig,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What passes a transformer."""

    tokens: int
    """Rows of its products."""
    pairs: int
    """Queries times the keys that each attends to, masked ones included."""
    kept: int
    """Tokens that the last block's out-projection and MLP compute."""


def padded(texts: int, length: int) -> Layout:
    """Texts of one length, each a sequence of its own, all of whose states are computed to the end."""
    return Layout(texts * length, texts * length**2, texts * length)


def image_flops(model: ModelConfig, images: int = 1, *, whole: bool = False) -> int:
    """Count the image tower.

    Args:
        whole: The last block of a Vision Transformer, and the query of a ResNet's pooling, are computed for every
            position, as open_clip does it; zebra computes what is pooled.
    """
    vision = model.vision
    if isinstance(vision, ResNetConfig):
        return images * _resnet(vision, model.image_size, model.embed_dim, whole=whole)
    assert isinstance(vision, VisionTransformerConfig)
    patches = (model.image_size // vision.patch_size) ** 2
    tokens = patches + 1
    layout = Layout(images * tokens, images * tokens**2, images * (tokens if whole else 1))
    embedding = 2 * images * patches * 3 * vision.patch_size**2 * vision.width
    return embedding + _transformer(vision, layout) + 2 * images * vision.width * model.embed_dim


def text_flops(model: ModelConfig, layout: Layout, texts: int = 1) -> int:
    """Count the text tower; `texts` of them are projected."""
    assert isinstance(model.text, TextConfig)
    return _transformer(model.text, layout) + 2 * texts * model.text.width * model.embed_dim


def loss_flops(pairs: int, embed_dim: int) -> int:
    """Count the similarities of a batch."""
    return 2 * pairs**2 * embed_dim


def convolutions(vision: ResNetConfig, image_size: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (side of the output, channels in, channels out, side of the kernel) of every convolution."""
    width, side = vision.width, image_size // 2
    yield side, 3, width // 2, 3
    yield side, width // 2, width // 2, 3
    yield side, width // 2, width, 3
    side, channels_in = side // 2, width
    for stage, blocks in enumerate(vision.layers):
        channels = width * 2**stage
        for block in range(blocks):
            yield side, channels_in, channels, 1
            yield side, channels, channels, 3
            side //= 2 if stage and not block else 1
            yield side, channels, 4 * channels, 1
            if not block:
                yield side, channels_in, 4 * channels, 1
            channels_in = 4 * channels


def _transformer(tower: TransformerConfig, layout: Layout) -> int:
    width = tower.width
    attention = 6 * layout.tokens * width**2 + 4 * layout.pairs * width
    after = 2 * width**2 + 4 * width * tower.hidden
    return tower.layers * attention + ((tower.layers - 1) * layout.tokens + layout.kept) * after


def _resnet(vision: ResNetConfig, image_size: int, embed_dim: int, *, whole: bool) -> int:
    body = sum(
        2 * side**2 * channels_in * channels_out * kernel**2
        for side, channels_in, channels_out, kernel in convolutions(vision, image_size)
    )
    tokens, width = (image_size // 32) ** 2 + 1, 32 * vision.width
    queries = tokens if whole else 1
    pool = 2 * width**2 * (2 * tokens + queries) + 4 * queries * tokens * width
    return body + pool + 2 * queries * width * embed_dim
