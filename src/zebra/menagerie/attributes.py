"""A split and dice in; the facts of one picture, from which it is drawn and described, out."""

from dataclasses import dataclass, replace
from typing import Literal

from zebra.menagerie.animals import animal
from zebra.menagerie.coats import GRAINS, colour_pairs
from zebra.menagerie.rng import Dice
from zebra.menagerie.scenes import SCENES, scenes_for
from zebra.menagerie.splits import SEEN, TRAIN_FONTS

Topic = Literal["animal", "count", "distance", "sign"]

DISTANCES = {
    "very close": (1.05, 1.35),
    "near": (0.6, 0.75),
    "at a middle distance": (0.32, 0.4),
    "far away": (0.14, 0.2),
}
"""How much of the picture the animal's longer side takes; the closest is cut by the frame."""
EXTENT = (0.68, 0.95)
"""The share of the width that an animal fills in an ordinary picture."""
BIG, SMALL = 0.88, 0.75
"""Shares of the picture's side from which an animal is called big, and up to which it is called small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is true of one picture; fields that do not apply keep their default."""

    topic: Topic
    scene: str
    animal: str = ""
    coat: str = ""
    colours: tuple[str, ...] = ()
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
        longer = self.extent * max(1.0, animal(self.animal).aspect)
        return "big" if longer > BIG else "small" if longer < SMALL else ""

    @property
    def is_fine_or_coarse(self) -> bool:
        """Whether how fine the pattern is can be said."""
        return self.grain not in ("", "medium")


def training_facts(dice: Dice) -> Facts:
    """Draw what a training picture shows: mostly one animal of a seen kind."""
    share = dice.between(0, 1)
    if share < 0.05:
        return sign(dice, dice.pick(range(10)), TRAIN_FONTS)
    kind = dice.pick(SEEN)
    if share < 0.10:
        return several(dice, kind, dice.pick((2, 3, 4, 5, 6)))
    if share < 0.15:
        return apart(dice, kind, dice.pick(tuple(DISTANCES)))
    return single(dice, kind)


def single(dice: Dice, kind: tuple[str, str], grain: str = "") -> Facts:
    """One animal, fully visible, filling a good part of the picture; of any grain if none is asked for."""
    name, coat = kind
    species = animal(name)
    base, other = dice.pick(_PAIRS)
    colours = (base,) if coat == "plain" else (base, other)
    scenes = scenes_for(colours) or list(SCENES)
    return Facts(
        topic="animal",
        scene=dice.pick(scenes),
        animal=name,
        coat=coat,
        colours=colours,
        grain=grain or dice.pick(GRAINS.get(coat, ("",))),
        side=dice.pick(("left", "right")) if species.sided else "",
        pose=dice.pick(species.poses),
        extent=dice.between(*EXTENT),
        count=1,
    )


def recoloured(facts: Facts, dice: Dice, colours: tuple[str, ...]) -> Facts:
    """The same animal in other colours, moved to where they can be seen."""
    return replace(facts, colours=colours, scene=dice.pick(scenes_for(colours)))


def several(dice: Dice, kind: tuple[str, str], count: int) -> Facts:
    """One to six animals of a kind."""
    return replace(single(dice, kind), topic="count", count=count, extent=0.0)


def apart(dice: Dice, kind: tuple[str, str], distance: str) -> Facts:
    """An animal near or far."""
    return replace(
        single(dice, kind), topic="distance", distance=distance, extent=dice.between(*DISTANCES[distance])
    )


def sign(dice: Dice, digit: int, fonts: tuple[str, ...]) -> Facts:
    """A sign with a typed number."""
    return Facts(topic="sign", scene=dice.pick(tuple(SCENES)), digit=digit, font=dice.pick(fonts))


_PAIRS = colour_pairs()
