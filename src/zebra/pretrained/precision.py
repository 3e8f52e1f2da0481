"""A model in fp32 in; a model of the same weights in a smaller number format, cast once, out."""

from torch import nn

from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError
from zebra.models import CLIP
from zebra.models.image.resnet import ModifiedResNet
from zebra.models.image.siglip import SiglipVision
from zebra.models.image.vit import VisionTransformer
from zebra.pretrained.device import has_native_bf16
from zebra.pretrained.int8 import quantize
from zebra.pretrained.weights import build_model, published_state_dict

TOKENS_PER_MICRO_BATCH = 512
MIN_COSINE = 0.999
"""What a vector in a smaller format must keep to the one in fp32."""


def cast_model(model: CLIP, precision: InferencePrecision) -> CLIP:
    """Return a model for inference alone; what stays fp32 shares memory with `model`, which is left as it is.

    bf16 casts both towers whole: inside torch's kernels norms, softmax and sums of products are fp32 all the same. int8
    rounds the matrices of the image tower; its text tower is bf16 where the hardware multiplies that, else fp32. The
    temperature, and the division by a vector's length, are always fp32.

    Raises:
        ConfigError: int8 is asked of a ResNet, or of another device than the CPU.
    """
    if precision == "fp32":
        return model
    device = model.logit_scale.device
    copy = (
        build_model(model.config, published_state_dict(model), "the model")
        .to(device)
        .eval()
        .requires_grad_(False)
    )
    if precision == "bf16":
        copy.visual.bfloat16()
    elif isinstance(copy.visual, ModifiedResNet) or device.type != "cpu":
        where = (
            "this model is a ResNet, made of convolutions" if device.type == "cpu" else f"this is {device}"
        )
        raise ConfigError(f"int8 multiplies matrices on a CPU, and {where}; use precision='bf16' or 'auto'")
    else:
        quantize(copy.visual)
    if precision == "bf16" or has_native_bf16(device):
        copy.text.bfloat16()
    return copy


def micro_batch_size(tower: nn.Module, precision: InferencePrecision) -> int | None:
    """Return how many pictures are best run together; None for as many as there are.

    int8 products are so fast that what lies between them counts: it should stay in the processor's cache.
    """
    if precision != "int8":
        return None
    assert isinstance(tower, VisionTransformer | SiglipVision)
    return max(1, TOKENS_PER_MICRO_BATCH // len(tower.positional_embedding))
