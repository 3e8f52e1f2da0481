"""What a step minimizes: the terms of the loss of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zebra.config.objective import ObjectiveConfig
from zebra.distributed import ProcessGroup
from zebra.losses import info_nce, sigmoid_loss
from zebra.models import CLIP
from zebra.models.clip import truncate_vectors
from zebra.train.hard_negatives import HardNegatives, label_negatives
from zebra.train.teacher import Teacher, TeacherTargets, teacher_terms
from zebra.train.text_labels import label_texts
from zebra.values import Batch


@dataclass(frozen=True, slots=True)
class Targets:
    """What the B pairs of this process are trained towards, besides matching their own texts."""

    label_B: Tensor | None = None
    """int64; pairs with equal labels are no negatives of each other. None: all other pairs are negatives."""
    teacher: TeacherTargets | None = None
    """Vectors of a teacher."""
    negatives: HardNegatives | None = None
    """Wrong captions, whose texts follow those of the pairs."""


NO_TARGETS = Targets()


def build_targets_fn(
    config: ObjectiveConfig, device: torch.device, teacher: Teacher | None = None
) -> Callable[[Batch], Targets]:
    """Return the function that looks up the targets of a batch."""

    def targets_of(batch: Batch) -> Targets:
        labels = label_pairs(batch.captions, batch.groups).to(device) if config.multi_positive else None
        return Targets(
            label_B=labels,
            teacher=teacher.targets_of(batch, device) if teacher else None,
            negatives=label_negatives(batch, device),
        )

    return targets_of


def label_pairs(captions: Sequence[str], groups: Sequence[str | None]) -> Tensor:
    """Return an integer per pair, int64 [B]: equal for equal groups, or equal captions without one, in any process."""
    names = (caption if group is None else f"\0{group}" for caption, group in zip(captions, groups, strict=True))
    return label_texts(names)


def loss_terms(
    model: CLIP,
    image_BE: Tensor,
    text_NE: Tensor,
    logit_scale: Tensor,
    label_N: Tensor | None,
    targets: Targets,
    group: ProcessGroup,
    negative_ME: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the terms of the loss by name; their sum is minimized.

    Args:
        image_BE: Unit vectors of the images of this process.
        text_NE: Unit vectors of the texts of all processes.
        logit_scale: Factor of the similarities.
        label_N: Labels of the pairs of all processes; None: each image matches its own text only.
        targets: Targets of the pairs of this process.
        negative_ME: Unit vectors of texts that match no image; equal in all processes.

    Returns:
        Scalars with the value for the global batch, differentiable in this process's part.
    """
    terms = contrastive_terms(model, image_BE, text_NE, logit_scale, label_N, group, negative_ME)
    if targets.teacher is not None:
        terms |= teacher_terms(targets.teacher, image_BE, text_NE, logit_scale, group)
    return terms


def contrastive_terms(
    model: CLIP,
    image_BE: Tensor,
    text_NE: Tensor,
    logit_scale: Tensor,
    label_N: Tensor | None,
    group: ProcessGroup,
    negative_ME: Tensor | None,
) -> dict[str, Tensor]:
    """Return the contrastive loss, or the parts of its mean over all sizes of the vectors, by name."""

    def contrastive(image: Tensor, text: Tensor, negative: Tensor | None) -> Tensor:
        if model.logit_bias is None:
            return info_nce(image, text, logit_scale, group=group, label_N=label_N, negative_ME=negative)
        bias = model.logit_bias
        return sigmoid_loss(image, text, logit_scale, bias, group=group, label_N=label_N, negative_ME=negative)

    sizes = model.config.dimensions
    terms = {"contrastive": contrastive(image_BE, text_NE, negative_ME)}
    for size in sizes:
        negative = None if negative_ME is None else truncate_vectors(negative_ME, size)
        image, text = truncate_vectors(image_BE, size), truncate_vectors(text_NE, size)
        terms[f"contrastive_{size}"] = contrastive(image, text, negative)
    return {name: term / len(terms) for name, term in terms.items()} if sizes else terms
