"""What a step minimizes: the terms of the loss of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

from zebra.config.objective import ObjectiveConfig
from zebra.distributed import ProcessGroup
from zebra.losses import info_nce, sigmoid_loss
from zebra.models import CLIP
from zebra.models.clip import truncate_vectors
from zebra.train.teacher import Teacher, TeacherTargets, teacher_terms
from zebra.values import Batch


@dataclass(frozen=True, slots=True)
class Targets:
    """What the B pairs of this process are trained towards, besides matching their own texts."""

    label_B: Tensor | None = None
    """int64; pairs with equal labels are no negatives of each other. None: all other pairs are negatives."""
    teacher: TeacherTargets | None = None
    """Vectors of a teacher."""


NO_TARGETS = Targets()


def build_targets_fn(
    config: ObjectiveConfig, device: torch.device, teacher: Teacher | None = None
) -> Callable[[Batch], Targets]:
    """Return the function that looks up the targets of a batch."""

    def targets_of(batch: Batch) -> Targets:
        labels = label_pairs(batch.captions, batch.groups).to(device) if config.multi_positive else None
        return Targets(label_B=labels, teacher=teacher.targets_of(batch, device) if teacher else None)

    return targets_of


def label_pairs(captions: Sequence[str], groups: Sequence[str | None]) -> Tensor:
    """Return an integer per pair, int64 [B]: equal for equal groups, or equal captions without one, in any process."""
    names = (caption if group is None else f"\0{group}" for caption, group in zip(captions, groups, strict=True))
    digests = (sha256(name.encode("utf-8", "surrogatepass")).digest() for name in names)
    return torch.tensor([int.from_bytes(digest[:8], "big", signed=True) for digest in digests], dtype=torch.int64)


def loss_terms(
    model: CLIP,
    image_BE: Tensor,
    text_NE: Tensor,
    logit_scale: Tensor,
    label_N: Tensor | None,
    targets: Targets,
    group: ProcessGroup,
) -> dict[str, Tensor]:
    """Return the terms of the loss by name; their sum is minimized.

    Args:
        image_BE: Unit vectors of the images of this process.
        text_NE: Unit vectors of the texts of all processes.
        logit_scale: Factor of the similarities.
        label_N: Labels of the pairs of all processes; None: each image matches its own text only.
        targets: Targets of the pairs of this process.

    Returns:
        Scalars with the value for the global batch, differentiable in this process's part.
    """
    terms = contrastive_terms(model, image_BE, text_NE, logit_scale, label_N, group)
    if targets.teacher is not None:
        terms |= teacher_terms(targets.teacher, image_BE, text_NE, logit_scale, group)
    return terms


def contrastive_terms(
    model: CLIP, image_BE: Tensor, text_NE: Tensor, logit_scale: Tensor, label_N: Tensor | None, group: ProcessGroup
) -> dict[str, Tensor]:
    """Return the contrastive loss, or the parts of its mean over all sizes of the vectors, by name."""

    def contrastive(image: Tensor, text: Tensor) -> Tensor:
        if model.logit_bias is None:
            return info_nce(image, text, logit_scale, group=group, label_N=label_N)
        return sigmoid_loss(image, text, logit_scale, model.logit_bias, group=group, label_N=label_N)

    sizes = model.config.dimensions
    terms = {"contrastive": contrastive(image_BE, text_NE)}
    for size in sizes:
        terms[f"contrastive_{size}"] = contrastive(truncate_vectors(image_BE, size), truncate_vectors(text_NE, size))
    return {name: term / len(terms) for name, term in terms.items()} if sizes else terms
