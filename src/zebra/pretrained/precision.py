"""Casting of models to smaller inference precisions."""

from torch import nn

from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError
from zebra.models import CLIP
from zebra.models.image.naflex import NaflexVision
from zebra.models.image.siglip import SiglipVision
from zebra.models.image.vit import VisionTransformer
from zebra.models.library_tower import LibraryTower
from zebra.pretrained.device import has_native_bf16
from zebra.pretrained.int8 import can_quantize, quantize
from zebra.pretrained.weights import build_model, published_state_dict

TOKENS_PER_MICRO_BATCH = 512
MIN_COSINE = 0.999
"""Smallest accepted cosine between a vector and the vector in fp32."""


def cast_model(model: CLIP, precision: InferencePrecision) -> CLIP:
    """Return a copy for inference only. Tensors that stay in fp32 share memory with `model`, which is not changed.

    bf16 casts both towers completely; torch's kernels still compute norms, softmax and sums of products in fp32. int8
    quantizes the matrices of the image tower; the text tower is then in bf16 if the hardware supports it, else in fp32.
    Towers of other libraries are simplified first (`LibraryTower.fuse`).
    The logit scale and the normalization of vectors are always in fp32.

    Raises:
        ConfigError: int8 for a tower of convolutions, or on a device other than the CPU.
    """
    if precision == "fp32":
        return model
    device = model.logit_scale.device
    copy = build_model(model.config, published_state_dict(model), "the model").to(device).eval().requires_grad_(False)
    for tower in (copy.visual, copy.text):
        if isinstance(tower, LibraryTower):
            tower.fuse()
    if precision == "bf16":
        copy.visual.bfloat16()
    elif not can_quantize(copy.visual) or device.type != "cpu":
        reason = "its image tower is made of convolutions" if device.type == "cpu" else f"the device is {device}"
        raise ConfigError(
            f"precision='int8' supports transformers on the CPU, but {reason}. Use precision='bf16' or 'auto'."
        )
    else:
        quantize(copy.visual)
    if precision == "bf16" or has_native_bf16(device):
        copy.text.bfloat16()
    return copy


def micro_batch_size(tower: nn.Module, precision: InferencePrecision) -> int | None:
    """Return the best number of images per forward pass; None for whole batches.

    int8 products are so fast that the operations between them matter: activations should stay in the CPU cache.
    """
    if precision != "int8":
        return None
    if isinstance(tower, LibraryTower):
        return 1  # its number of tokens is unknown; ConvNeXt-B took 310 ms an image one by one, 475 ms by four
    if not isinstance(tower, VisionTransformer | SiglipVision | NaflexVision):
        return None
    return max(1, TOKENS_PER_MICRO_BATCH // len(tower.positional_embedding))
