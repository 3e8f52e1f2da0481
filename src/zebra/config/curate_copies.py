"""Settings of `zebra curate` for near duplicates, decontamination and splits."""

from dataclasses import dataclass

from zebra.errors import ConfigError

MAX_HASH_DISTANCE = 16
"""Above it, look-ups by bands compare nearly all images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyRules:
    """Which near duplicates are dropped: images that show the same, rescaled, recompressed or cropped."""

    max_distance: int | None = None
    """Most bits in which the perceptual hashes of candidates differ; 5 finds nearly all. None: no near duplicates are
    dropped."""
    crops: bool = False
    """Find crops too; takes twice the time, and 6 kB of memory per image."""
    avoid: tuple[str, ...] = ()
    """Evaluation datasets, named as for `zebra evaluate`; pairs with one of their images, or a crop of one, are
    dropped."""
    avoid_root: str | None = None
    """Directory with archives and copies of catalog datasets."""

    def __post_init__(self) -> None:
        if self.max_distance is not None and not 0 <= self.max_distance <= MAX_HASH_DISTANCE:
            raise ConfigError(f"copies.max_distance is {self.max_distance}; it must be from 0 to {MAX_HASH_DISTANCE}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRules:
    """How the set is split; images that show the same are in one split."""

    validation: float = 0.0
    """Expected share of images in the split `validation`; 0 writes one set without splits."""
    seed: int = 0
    """Seed of the draw."""

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise ConfigError(f"split.validation is {self.validation}; it must be at least 0 and below 1")
