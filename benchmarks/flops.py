"""Count of the floating-point operations of a forward pass.

A multiply-add is two operations. Only products and convolutions count: norms, activations and softmax are limited by
memory bandwidth. A training step counts as three forward passes, without recomputation.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.config.transformer import TransformerConfig


@dataclass(frozen=True, slots=True)
class Layout:
    """Size of the input of a transformer."""

    tokens: int
    """Rows of the matrix products."""
    pairs: int
    """Queries times the keys of each, including masked ones."""
    outputs: int
    """Tokens for which the last block computes out-projection and MLP."""


def padded(texts: int, length: int) -> Layout:
    """Return the layout of texts of one length without packing, with all states computed in every block."""
    return Layout(texts * length, texts * length**2, texts * length)


def image_flops(model: ModelConfig, images: int = 1, *, all_outputs: bool = False) -> int:
    """Count the operations of the image tower.

    Args:
        all_outputs: Count the last block of a Vision Transformer, and the query of a ResNet's pooling, for every
            position, as in open_clip; zebra computes only what is pooled.
    """
    vision = model.vision
    if isinstance(vision, ResNetConfig):
        return images * _resnet(vision, model.image_size, model.embed_dim, all_outputs=all_outputs)
    assert isinstance(vision, VisionTransformerConfig)
    patches = (model.image_size // vision.patch_size) ** 2
    tokens = patches + 1
    layout = Layout(images * tokens, images * tokens**2, images * (tokens if all_outputs else 1))
    embedding = 2 * images * patches * 3 * vision.patch_size**2 * vision.width
    return embedding + _transformer(vision, layout) + 2 * images * vision.width * model.embed_dim


def text_flops(model: ModelConfig, layout: Layout, texts: int = 1) -> int:
    """Count the operations of the text tower, with the projection of `texts` vectors."""
    assert isinstance(model.text, TextConfig)
    return _transformer(model.text, layout) + 2 * texts * model.text.width * model.embed_dim


def loss_flops(pairs: int, embed_dim: int) -> int:
    """Count the operations of the similarities of a batch."""
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
    mlp = 2 * width**2 + 4 * width * tower.hidden
    return tower.layers * attention + ((tower.layers - 1) * layout.tokens + layout.outputs) * mlp


def _resnet(vision: ResNetConfig, image_size: int, embed_dim: int, *, all_outputs: bool) -> int:
    body = sum(
        2 * side**2 * channels_in * channels_out * kernel**2
        for side, channels_in, channels_out, kernel in convolutions(vision, image_size)
    )
    tokens, width = (image_size // 32) ** 2 + 1, 32 * vision.width
    queries = tokens if all_outputs else 1
    pool = 2 * width**2 * (2 * tokens + queries) + 4 * queries * tokens * width
    return body + pool + 2 * queries * width * embed_dim
