"""Attributes of one image, from which it is drawn and captioned."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from zebra.menagerie.animals import get_animal
from zebra.menagerie.coats import COLOR_PAIRS, GRAINS
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.scenes import SCENES, compatible_scenes
from zebra.menagerie.splits import SEEN_KINDS, TRAIN_FONTS

Topic = Literal["animal", "count", "distance", "sign"]

DISTANCES = {
    "very close": (1.05, 1.35),
    "near": (0.6, 0.75),
    "at a middle distance": (0.32, 0.4),
    "far away": (0.14, 0.2),
}
"""Range of the animal's longer side as a fraction of the image; the closest is cropped by the frame."""
EXTENT_RANGE = (0.68, 0.95)
"""Range of the width of an animal as a fraction of the image width."""
MIN_BIG_EXTENT, MAX_SMALL_EXTENT = 0.88, 0.75
"""Fractions of the image side above which an animal is called big, and below which it is called small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAttributes:
    """Attributes of one image; fields that do not apply keep their default."""

    topic: Topic
    scene: str
    animal: str = ""
    coat: str = ""
    colors: tuple[str, ...] = ()
    """The main color, then the pattern's color."""
    grain: str = ""
    """thin, thick, small, large or medium."""
    side: str = ""
    """left or right, the direction it faces; empty if it faces the viewer."""
    pose: str = ""
    extent: float = 0.0
    """Width of the animal as a fraction of the image width, unless its height is the limit."""
    count: int = 0
    """Number of animals."""
    distance: str = ""
    digit: int | None = None
    """The number on the sign."""
    font: str = ""

    @property
    def size(self) -> str:
        """Return big or small by the animal's longer side; empty if neither, or if the topic is not animal."""
        if self.topic != "animal":
            return ""
        longer = self.extent * max(1.0, get_animal(self.animal).aspect)
        return "big" if longer > MIN_BIG_EXTENT else "small" if longer < MAX_SMALL_EXTENT else ""

    @property
    def is_fine_or_coarse(self) -> bool:
        """Return whether the grain is fine or coarse enough to name it."""
        return self.grain not in ("", "medium")


def sample_training_attributes(rng: SampleRng, kinds: Sequence[tuple[str, str]] = SEEN_KINDS) -> ImageAttributes:
    """Sample the attributes of a training image: mostly one animal; a kind that is listed twice is twice as likely."""
    share = rng.uniform(0, 1)
    if share < 0.05:
        return sample_sign(rng, rng.choice(range(10)), TRAIN_FONTS)
    kind = rng.choice(kinds)
    if share < 0.10:
        return sample_group(rng, kind, rng.choice((2, 3, 4, 5, 6)))
    if share < 0.15:
        return sample_at_distance(rng, kind, rng.choice(tuple(DISTANCES)))
    return sample_single(rng, kind)


def sample_single(rng: SampleRng, kind: tuple[str, str], grain: str = "") -> ImageAttributes:
    """Sample one fully visible animal, with a random grain unless one is given."""
    name, coat = kind
    species = get_animal(name)
    base, other = rng.choice(COLOR_PAIRS)
    colors = (base,) if coat == "plain" else (base, other)
    scenes = compatible_scenes(colors) or list(SCENES)
    return ImageAttributes(
        topic="animal",
        scene=rng.choice(scenes),
        animal=name,
        coat=coat,
        colors=colors,
        grain=grain or rng.choice(GRAINS.get(coat, ("",))),
        side=rng.choice(("left", "right")) if species.is_side_view else "",
        pose=rng.choice(species.poses),
        extent=rng.uniform(*EXTENT_RANGE),
        count=1,
    )


def sample_group(rng: SampleRng, kind: tuple[str, str], count: int) -> ImageAttributes:
    """Sample a group of one to six animals of a kind."""
    return replace(sample_single(rng, kind), topic="count", count=count, extent=0.0)


def sample_at_distance(rng: SampleRng, kind: tuple[str, str], distance: str) -> ImageAttributes:
    """Sample one animal at a named distance."""
    return replace(
        sample_single(rng, kind), topic="distance", distance=distance, extent=rng.uniform(*DISTANCES[distance])
    )


def sample_sign(rng: SampleRng, digit: int, fonts: tuple[str, ...]) -> ImageAttributes:
    """Sample a sign with a typed number."""
    return ImageAttributes(topic="sign", scene=rng.choice(tuple(SCENES)), digit=digit, font=rng.choice(fonts))
