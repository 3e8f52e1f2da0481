"""What to evaluate, and where the scores go."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Zero-shot evaluation of one model on a number of sets."""

    model: str
    """A model folder."""
    datasets: tuple[str, ...]
    """CLIP_benchmark folders."""
    out: str
    """The folder for metrics.json."""
