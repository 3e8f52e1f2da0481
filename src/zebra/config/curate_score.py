"""Settings of the rules of `zebra curate` that need a model."""

from dataclasses import dataclass
from typing import Literal

from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError

ScoreName = Literal["alignment", "flipped", "neg-clip-loss"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRules:
    """Which pairs are dropped because image and caption do not match, by the vectors of a model."""

    min_alignment: float | None = None
    """Smallest cosine of image and caption; depends on the model (LAION-400M: 0.3 with ViT-B/32)."""
    max_flipped_gain: float | None = None
    """Largest drop of the cosine when the image is mirrored, which happens when the image shows its caption as text."""
    prompts: str | None = None
    """File with a pair of prompts per line, NAME: PROMPT | OTHER PROMPT, such as for watermarks."""
    max_prompt: float = 0.9
    """Largest probability of the first prompt of each pair."""
    keep_fraction: float | None = None
    """Fraction of the pairs with the highest score that are kept, after the rules before; ties stay (DataComp: 0.3)."""
    rank_by: ScoreName = "alignment"
    """Score of keep_fraction: the cosine, that of the mirrored image, or the cosine less that to random partners."""
    store: str | None = None
    """A store of `zebra embed` with the same model; its vectors are used instead of computing them."""
    precision: InferencePrecision | Literal["auto"] = "fp32"
    """Precision of the model. auto depends on the speed of the machine, so that another one may keep other pairs."""

    def __post_init__(self) -> None:
        if self.min_alignment is not None and not -1 <= self.min_alignment <= 1:
            raise ConfigError(f"score.min_alignment is {self.min_alignment}; it must be from -1 to 1")
        if self.max_flipped_gain is not None and not 0 <= self.max_flipped_gain <= 2:
            raise ConfigError(f"score.max_flipped_gain is {self.max_flipped_gain}; it must be from 0 to 2")
        if not 0 <= self.max_prompt <= 1:
            raise ConfigError(f"score.max_prompt is {self.max_prompt}; it must be from 0 to 1")
        if self.keep_fraction is not None and not 0 < self.keep_fraction <= 1:
            raise ConfigError(f"score.keep_fraction is {self.keep_fraction}; it must be above 0 and at most 1")
        if self.keep_fraction is None and self.rank_by != "alignment":
            raise ConfigError(f"score.rank_by is {self.rank_by}, but nothing is ranked. Set score.keep_fraction too")

    @property
    def is_used(self) -> bool:
        """Return whether a rule needs scores."""
        settings = (self.min_alignment, self.max_flipped_gain, self.prompts, self.keep_fraction)
        return any(value is not None for value in settings)

    @property
    def needs_flipped(self) -> bool:
        """Return whether a rule needs the mirrored images."""
        is_ranked = self.keep_fraction is not None and self.rank_by == "flipped"
        return is_ranked or self.max_flipped_gain is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticRules:
    """Which images are dropped because one with a better alignment resembles them (SemDeDup)."""

    max_cosine: float | None = None
    """Largest cosine of two images that both stay; depends on the model, so try it with --look."""

    def __post_init__(self) -> None:
        if self.max_cosine is not None and not 0 < self.max_cosine < 1:
            raise ConfigError(f"semantic.max_cosine is {self.max_cosine}; it must be above 0 and below 1")
