"""Settings of what training minimizes."""

from dataclasses import dataclass

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveConfig:
    """Terms of the loss. The contrastive term is InfoNCE, or the sigmoid loss if the model has a logit bias."""

    multi_positive: bool = False
    """Pairs with equal captions or groups are no negatives of each other: for captions that repeat, such as class
    names. On by default when a pretrained model is trained on such captions."""
    dimensions: tuple[int, ...] = ()
    """Also train the first components of the vectors as shorter vectors of these sizes, ascending, such as 32 64
    (Matryoshka). By default those of the pretrained model."""
    teacher: str | None = None
    """A store that `zebra embed TEACHER DATA --captions` wrote for the training data: the model also learns to have
    the teacher's vectors and similarities (distillation)."""
    teacher_feature_weight: float = 10.0
    """Weight of the feature loss, the mean of 1 - cosine between the vectors of both models."""
    teacher_affinity_weight: float = 1.0
    """Weight of the affinity loss, the divergence of similarities in a batch; needs captions with vectors."""

    def __post_init__(self) -> None:
        for name in ("teacher_feature_weight", "teacher_affinity_weight"):
            if not 0 <= getattr(self, name) < float("inf"):  # NaN is refused too
                raise ConfigError(f"objective.{name} is {getattr(self, name)}; it must be finite and not negative")
        if self.teacher is not None and not (self.teacher_feature_weight or self.teacher_affinity_weight):
            raise ConfigError(
                "both weights of objective.teacher are 0, so it would teach nothing. Give a weight, or no teacher"
            )
