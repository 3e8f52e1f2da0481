"""Symmetric InfoNCE (CLIP §2.3, Fig. 3): N matching pairs in, one scalar out."""

import torch
from torch import Tensor
from torch.nn import functional as F

from zebra.errors import ShapeError


def info_nce(image_NE: Tensor, text_NE: Tensor, logit_scale: Tensor | float) -> Tensor:
    """Average the cross-entropy of finding each image's text and each text's image among N.

    Args:
        image_NE: Unit vectors [N, E].
        text_NE: Unit vectors [N, E]; row i belongs to image i.
        logit_scale: The multiplier of cosine similarities, already exponentiated.

    Returns:
        The loss, a scalar; gradients flow to all three arguments. Computed in fp32 even under autocast, since
        bf16 logits near 100 are half a unit apart.

    Raises:
        ShapeError: The two sides differ in shape.
    """
    if image_NE.shape != text_NE.shape or image_NE.ndim != 2:
        raise ShapeError(
            f"info_nce needs two [N, E] tensors of one shape, not {tuple(image_NE.shape)} and "
            f"{tuple(text_NE.shape)}"
        )
    with torch.autocast(image_NE.device.type, enabled=False):
        if image_NE.dtype in (torch.bfloat16, torch.float16):
            image_NE, text_NE = image_NE.float(), text_NE.float()
        logits_NN = logit_scale * image_NE @ text_NE.T
        target_N = torch.arange(len(logits_NN), device=logits_NN.device)
        return (F.cross_entropy(logits_NN, target_N) + F.cross_entropy(logits_NN.T, target_N)) / 2
