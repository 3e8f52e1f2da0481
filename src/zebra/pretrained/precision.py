"""Casting of models to smaller inference precisions."""

import copy
import warnings

import torch
from torch import nn

from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError
from zebra.models import CLIP
from zebra.models.image.naflex import NaflexVision
from zebra.models.image.resnet import ModifiedResNet
from zebra.models.image.siglip import SiglipVision
from zebra.models.image.vit import VisionTransformer
from zebra.models.library_tower import LibraryTower
from zebra.pretrained.batch_norm import fuse_batch_norms
from zebra.pretrained.device import has_native_bf16, has_native_fp16
from zebra.pretrained.int8 import can_quantize, quantize
from zebra.pretrained.packed_bf16 import can_pack_bf16, pack_bf16_weights
from zebra.pretrained.weights import build_model, published_state_dict

TOKENS_PER_MICRO_BATCH: dict[InferencePrecision, int] = {"int8": 512, "bf16": 2048}
"""Tokens per forward pass on a processor. In int8, activations should stay in the L2 cache, because the operations
between products take a good part of the time. In bf16, reading 170 MB of weights for 400 tokens takes a sixth of it."""
MIN_COSINE = 0.999
"""Smallest accepted cosine between a vector and the vector in fp32."""


def cast_model(model: CLIP, precision: InferencePrecision, text_precision: InferencePrecision | None = None) -> CLIP:
    """Return a copy for inference only. Tensors that stay in fp32 share memory with `model`, which is not changed.

    bf16 and fp16 cast a tower completely; torch's kernels still compute norms, softmax and sums of products in fp32.
    int8 quantizes the matrices of a tower. Towers of other libraries are simplified first (`LibraryTower.fuse`),
    and batch norms are fused.
    The logit scale and the normalization of vectors are always in fp32.

    Args:
        precision: Of the image tower.
        text_precision: Of the text tower; that of the image tower by default.

    Raises:
        ConfigError: The device, or for int8 the image tower, does not support the precision.
    """
    text_precision = text_precision or precision
    if precision == text_precision == "fp32":
        return model
    device = model.logit_scale.device
    cast = build_model(model.config, published_state_dict(model), "the model").to(device).eval().requires_grad_(False)
    _cast_tower(cast.visual, precision, device, "image")
    _cast_tower(cast.text, text_precision, device, "text")
    return cast


def _cast_tower(tower: nn.Module, precision: InferencePrecision, device: torch.device, kind: str) -> None:
    """Cast a tower in place."""
    if precision == "fp32":
        return
    require_precision(precision, device)
    if precision == "int8" and not can_quantize(tower):
        raise ConfigError(
            f"precision='int8' supports transformers, but the {kind} tower is made of convolutions. "
            f"Use precision={_best_half(device)!r} or 'auto'."
        )
    if isinstance(tower, LibraryTower):
        tower.fuse()
    elif isinstance(tower, ModifiedResNet):
        fuse_batch_norms(tower)
    match precision:
        case "bf16":
            if can_pack_bf16(device):
                pack_bf16_weights(tower)
            tower.bfloat16()
        case "fp16":
            tower.half()
        case "int8":
            quantize(tower)


def fuse_image_tower(model: CLIP) -> CLIP | None:
    """Return a copy in fp32 whose batch norms are fused with convolutions, for inference; None if it has none.

    Vectors differ by rounding, so only `precision="auto"` uses it. The text tower is shared with `model`.
    """
    if not isinstance(model.visual, ModifiedResNet):
        return None
    fused = copy.deepcopy(model, {id(model.text): model.text})  # the text tower, in any precision, is shared
    assert isinstance(fused.visual, ModifiedResNet)
    fuse_batch_norms(fused.visual.eval().requires_grad_(False))
    return fused


def require_precision(precision: InferencePrecision, device: torch.device) -> None:
    """Raise ConfigError for a precision that a device cannot compute in: int8 on GPUs, fp16 on most processors."""
    if precision == "int8" and device.type != "cpu":
        raise ConfigError(
            f"precision='int8' is for the CPU, but the device is {device}. Use precision={_best_half(device)!r} or "
            "'auto', or device='cpu'."
        )
    if precision == "fp16" and not has_native_fp16(device):
        raise ConfigError(
            "precision='fp16' needs a GPU or a processor that multiplies fp16 (AVX512-FP16 or AMX-FP16), which this "
            "one does not. Use precision='auto', 'int8' or 'bf16'."
        )


def warn_if_emulated(precision: str, device: torch.device) -> None:
    """Warn about bf16 without native instructions."""
    if precision == "bf16" and not has_native_bf16(device):
        others = "'auto', 'int8' or 'fp32'" if device.type == "cpu" else "'fp16' or 'auto'"
        warnings.warn(
            f"precision='bf16' is emulated, because {_name_hardware(device)} has no bf16 instructions, and is slower "
            f"than fp32. Use precision={others}.",
            stacklevel=3,
        )


def _name_hardware(device: torch.device) -> str:
    return "this processor" if device.type == "cpu" else f"the device {device}"


def _best_half(device: torch.device) -> InferencePrecision:
    """Return the 16-bit precision that suits a device."""
    return "bf16" if device.type == "cpu" or has_native_bf16(device) else "fp16"


def micro_batch_size(tower: nn.Module, precision: InferencePrecision) -> int | None:
    """Return the best number of images per forward pass; None for whole batches."""
    is_packed_bf16 = precision == "bf16" and can_pack_bf16(next(tower.parameters()).device)
    if precision != "int8" and not is_packed_bf16:
        return None
    if isinstance(tower, LibraryTower):  # its number of tokens is unknown
        return 1 if precision == "int8" else None  # ConvNeXt-B took 310 ms an image one by one, 475 ms by four
    if not isinstance(tower, VisionTransformer | SiglipVision | NaflexVision):
        return None
    return max(1, TOKENS_PER_MICRO_BATCH[precision] // len(tower.positional_embedding))
