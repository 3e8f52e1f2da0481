"""Predictive objectives, the baselines of CLIP (CLIP §2.3, Fig. 2).

Both predict the caption from its image: as a bag of words, or token by token.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from zebra.errors import ShapeError


def bag_of_words_loss(logits_BV: Tensor, target_BV: Tensor) -> Tensor:
    """Return the mean cross-entropy of predicting the words of each image's caption.

    One softmax over the vocabulary, as in Joulin et al. 2016 (arXiv 1511.02251, the multi-class logistic loss), the
    baseline that the paper names, and in the visual n-grams of Li et al. 2017 (arXiv 1612.09161).

    Differs: those papers sum over the words of a caption. This loss averages: each of k words has probability 1/k (as
    in Mahajan et al. 2018, arXiv 1805.00932), so that long captions do not count more.

    Args:
        logits_BV: Logits [B, V] of the words of the vocabulary for each image.
        target_BV: Whether the caption contains the word, bool [B, V]. A caption without any word has loss 0.

    Returns:
        The loss, a scalar. Computed in fp32 even under autocast; fp64 logits stay fp64.

    Raises:
        ShapeError: If the shapes differ, or are empty.
    """
    if logits_BV.shape != target_BV.shape or logits_BV.ndim != 2 or not logits_BV.numel():
        raise ShapeError(
            "bag_of_words_loss needs logits and targets as two non-empty [B, V] tensors of one shape, with image i in "
            f"row i of both, not {tuple(logits_BV.shape)} and {tuple(target_BV.shape)}"
        )
    with torch.autocast(logits_BV.device.type, enabled=False):
        logits_BV = _promote_to_fp32(logits_BV)
        target_prob_BV = target_BV.to(logits_BV.dtype) / target_BV.sum(dim=1, keepdim=True).clamp(min=1)
        return F.cross_entropy(logits_BV, target_prob_BV)


def captioning_loss(logits_BLV: Tensor, target_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next token over all tokens but padding (VirTex, Desai & Johnson 2020, §3).

    Differs: VirTex adds a second, backward decoder; CLIP's baseline and this loss are forward only.

    Args:
        logits_BLV: Logits [B, L, V] of the token after each position.
        target_BL: The next token, int64 [B, L].
        mask_BL: False where the next token is padding, bool [B, L]. CLIP pads with 0, which is also a word's id, so the
            ids alone cannot show it. Values at padding have no influence, not even NaN.

    Returns:
        The loss, a scalar: the mean over tokens, so that long captions count more. Computed in fp32 even under
        autocast; fp64 logits stay fp64.

    Raises:
        ShapeError: If the shapes do not match, or all tokens are padding.
    """
    if logits_BLV.ndim != 3 or not logits_BLV.shape[:2] == target_BL.shape == mask_BL.shape:
        raise ShapeError(
            "captioning_loss needs logits [B, L, V], target ids [B, L] and a mask [B, L], not "
            f"{tuple(logits_BLV.shape)}, {tuple(target_BL.shape)} and {tuple(mask_BL.shape)}"
        )
    with torch.autocast(logits_BLV.device.type, enabled=False):
        logits_NV, target_N = logits_BLV[mask_BL], target_BL[mask_BL]
        if not logits_NV.numel():
            raise ShapeError(
                f"captioning_loss: every token of the batch {tuple(target_BL.shape)} is masked; a text has at least "
                "its end token"
            )
        return F.cross_entropy(_promote_to_fp32(logits_NV), target_N)


def _promote_to_fp32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
