"""Hard negatives: wrong captions of the images (NegCLIP, arXiv 2210.01936)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zebra.distributed import ProcessGroup
from zebra.train.text_labels import label_texts
from zebra.values import Batch


@dataclass(frozen=True, slots=True)
class HardNegatives:
    """The H hard negatives of this process; the last H rows of its tokens are their texts."""

    label_H: Tensor
    """int64; equal texts have equal labels, in any process. H is the number of pairs: each has one place."""
    is_present_H: Tensor
    """bool; False for a pair without a hard negative, whose text is empty."""
    caption_label_B: Tensor
    """int64; labels of the captions of the batch."""


@dataclass(frozen=True, slots=True)
class UsedNegatives:
    """The hard negatives of all processes that take part in a step."""

    text_ME: Tensor
    """Their unit vectors, M at most N."""
    num_dropped: int
    """Number of hard negatives that are equal to a caption of the batch, and so are none."""


def hard_negative_texts(batch: Batch) -> tuple[str, ...]:
    """Return a text for each hard negative of a batch, which is empty for a pair without one; () without any column."""
    return tuple(negative or "" for negative in batch.negatives)


def label_negatives(batch: Batch, device: torch.device) -> HardNegatives | None:
    """Return what a step needs to know of the hard negatives of a batch; None if the data has no column of them."""
    if not batch.negatives:
        return None
    texts = hard_negative_texts(batch)
    is_present_H = torch.tensor([negative is not None for negative in batch.negatives])
    labels = (label_texts(texts), is_present_H, label_texts(batch.captions))
    return HardNegatives(*(each.to(device) for each in labels))


def select_negatives(negatives: HardNegatives, text_HE: Tensor, group: ProcessGroup) -> UsedNegatives:
    """Gather the hard negatives of all processes without those that are equal to a caption of the global batch.

    Args:
        text_HE: Unit vectors of the hard negatives of this process.
    """
    text_NE, label_N = group.all_gather(text_HE), group.all_gather(negatives.label_H)
    is_present_N = group.all_gather(negatives.is_present_H.to(torch.int64)).bool()
    is_caption_N = torch.isin(label_N, group.all_gather(negatives.caption_label_B))
    return UsedNegatives(text_NE[is_present_N & ~is_caption_N], int((is_present_N & is_caption_N).sum()))
