"""A split and dice in; the facts of one picture, from which it is drawn and described, out."""

from dataclasses import dataclass, replace
from typing import Literal

from zebra.menagerie.animals import get_animal
from zebra.menagerie.coats import GRAINS, list_color_pairs
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
"""How much of the picture the animal's longer side takes; the closest is cut by the frame."""
EXTENT_RANGE = (0.68, 0.95)
"""The share of the width that an animal fills in an ordinary picture."""
MIN_BIG_EXTENT, MAX_SMALL_EXTENT = 0.88, 0.75
"""Shares of the picture's side from which an animal is called big, and up to which it is called small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAttributes:
    """What is true of one picture; fields that do not apply keep their default."""

    topic: Topic
    scene: str
    animal: str = ""
    coat: str = ""
    colors: tuple[str, ...] = ()
    """The main colour, then the pattern's."""
    grain: str = ""
    """thin, thick, small, large, or medium."""
    side: str = ""
    """left or right, where it looks; empty if it looks at us."""
    pose: str = ""
    extent: float = 0.0
    """Share of the picture's width that the animal takes, if its height leaves it so much."""
    count: int = 0
    """How many animals."""
    distance: str = ""
    digit: int | None = None
    """The number on the sign."""
    font: str = ""

    @property
    def size(self) -> str:
        """The word big or small, by the animal's longer side; empty for what is neither, or is near or far."""
        if self.topic != "animal":
            return ""
        longer = self.extent * max(1.0, get_animal(self.animal).aspect)
        return "big" if longer > MIN_BIG_EXTENT else "small" if longer < MAX_SMALL_EXTENT else ""

    @property
    def is_fine_or_coarse(self) -> bool:
        """Whether how fine the pattern is can be said."""
        return self.grain not in ("", "medium")


def sample_training_attributes(rng: SampleRng) -> ImageAttributes:
    """Draw what a training picture shows: mostly one animal of a seen kind."""
    share = rng.uniform(0, 1)
    if share < 0.05:
        return sample_sign(rng, rng.choice(range(10)), TRAIN_FONTS)
    kind = rng.choice(SEEN_KINDS)
    if share < 0.10:
        return sample_group(rng, kind, rng.choice((2, 3, 4, 5, 6)))
    if share < 0.15:
        return sample_at_distance(rng, kind, rng.choice(tuple(DISTANCES)))
    return sample_single(rng, kind)


def sample_single(rng: SampleRng, kind: tuple[str, str], grain: str = "") -> ImageAttributes:
    """One animal, fully visible, filling a good part of the picture; of any grain if none is asked for."""
    name, coat = kind
    species = get_animal(name)
    base, other = rng.choice(_COLOR_PAIRS)
    colours = (base,) if coat == "plain" else (base, other)
    scenes = compatible_scenes(colours) or list(SCENES)
    return ImageAttributes(
        topic="animal",
        scene=rng.choice(scenes),
        animal=name,
        coat=coat,
        colors=colours,
        grain=grain or rng.choice(GRAINS.get(coat, ("",))),
        side=rng.choice(("left", "right")) if species.is_side_view else "",
        pose=rng.choice(species.poses),
        extent=rng.uniform(*EXTENT_RANGE),
        count=1,
    )


def recolor(attributes: ImageAttributes, rng: SampleRng, colors: tuple[str, ...]) -> ImageAttributes:
    """The same animal in other colours, moved to where they can be seen."""
    return replace(attributes, colors=colors, scene=rng.choice(compatible_scenes(colors)))


def sample_group(rng: SampleRng, kind: tuple[str, str], count: int) -> ImageAttributes:
    """One to six animals of a kind."""
    return replace(sample_single(rng, kind), topic="count", count=count, extent=0.0)


def sample_at_distance(rng: SampleRng, kind: tuple[str, str], distance: str) -> ImageAttributes:
    """An animal near or far."""
    return replace(
        sample_single(rng, kind),
        topic="distance",
        distance=distance,
        extent=rng.uniform(*DISTANCES[distance]),
    )


def sample_sign(rng: SampleRng, digit: int, fonts: tuple[str, ...]) -> ImageAttributes:
    """A sign with a typed number."""
    return ImageAttributes(topic="sign", scene=rng.choice(tuple(SCENES)), digit=digit, font=rng.choice(fonts))


_COLOR_PAIRS = list_color_pairs()
