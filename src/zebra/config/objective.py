"""Settings of what training minimizes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveConfig:
    """Terms of the loss. The contrastive term is InfoNCE, or the sigmoid loss if the model has a logit bias."""

    multi_positive: bool = False
    """Pairs with equal captions or groups match each other instead of counting as negatives: for captions that repeat,
    such as class names. On by default when a pretrained model is trained on such captions."""
