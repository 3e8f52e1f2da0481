"""The objectives that CLIP was measured against (CLIP §2.3, Fig. 2): scores of words in, one scalar out.

Both predict the caption from its image: as a bag of words, or word by word.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from zebra.errors import ShapeError


def bag_of_words_loss(logits_BV: Tensor, target_BV: Tensor) -> Tensor:
    """Average the cross-entropy of predicting which words of the vocabulary each image's caption holds.

    One softmax over the vocabulary, as in Joulin et al. 2016 (arXiv 1511.02251, the multi-class logistic loss), the
    baseline that the paper names, and in the visual n-grams of Li et al. 2017 (arXiv 1612.09161).

    Differs: both sum over the words of a caption; here they are averaged, each of k words having the probability 1/k
    (as in Mahajan et al. 2018, arXiv 1805.00932), so that a long caption does not count more than a short one.

    Args:
        logits_BV: Scores [B, V] of the vocabulary's words for each image.
        target_BV: Which of them its caption holds, bool [B, V]. A caption without any costs nothing.

    Returns:
        The loss, a scalar. Computed in fp32 even under autocast; fp64 scores stay fp64.

    Raises:
        ShapeError: The two differ in shape, or are empty.
    """
    if logits_BV.shape != target_BV.shape or logits_BV.ndim != 2 or not logits_BV.numel():
        raise ShapeError(
            "bag_of_words_loss needs scores and words as two filled [B, V] tensors of one shape, row i of both being "
            f"image i, not {tuple(logits_BV.shape)} and {tuple(target_BV.shape)}"
        )
    with torch.autocast(logits_BV.device.type, enabled=False):
        logits_BV = _promote_to_fp32(logits_BV)
        share_BV = target_BV.to(logits_BV.dtype) / target_BV.sum(dim=1, keepdim=True).clamp(min=1)
        return F.cross_entropy(logits_BV, share_BV)


def captioning_loss(logits_BLV: Tensor, target_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Average the cross-entropy of the next token over all that were said (VirTex, Desai & Johnson 2020, §3).

    Differs: VirTex adds a second decoder that reads backwards; CLIP's baseline and this loss read forwards alone.

    Args:
        logits_BLV: Scores [B, L, V] of the token after each position.
        target_BL: The token that comes there, int64 [B, L].
        mask_BL: False where that token is padding, bool [B, L]. CLIP pads with 0, which is a word's id too, so no id
            can tell; what stands at padding has no influence, not even NaN.

    Returns:
        The loss, a scalar: the mean over tokens, so that a long caption counts more than a short one. Computed in fp32
        even under autocast; fp64 scores stay fp64.

    Raises:
        ShapeError: The three do not fit each other, or nothing was said.
    """
    if logits_BLV.ndim != 3 or not logits_BLV.shape[:2] == target_BL.shape == mask_BL.shape:
        raise ShapeError(
            "captioning_loss needs scores [B, L, V], the next tokens [B, L] and which of them were said [B, L], not "
            f"{tuple(logits_BLV.shape)}, {tuple(target_BL.shape)} and {tuple(mask_BL.shape)}"
        )
    with torch.autocast(logits_BLV.device.type, enabled=False):
        logits_NV, next_N = logits_BLV[mask_BL], target_BL[mask_BL]
        if not logits_NV.numel():
            raise ShapeError(
                f"captioning_loss: not one token was said in a batch of shape {tuple(target_BL.shape)}; a text "
                "has at least its end"
            )
        return F.cross_entropy(_promote_to_fp32(logits_NV), next_N)


def _promote_to_fp32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
