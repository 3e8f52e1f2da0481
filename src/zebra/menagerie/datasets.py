"""The evaluation sets: a name in; its size, class names, templates and how its facts are drawn, out."""

from collections.abc import Callable
from dataclasses import dataclass

from zebra.menagerie.attributes import DISTANCES, Facts, apart, recoloured, several, sign, single
from zebra.menagerie.captions import NUMBERS
from zebra.menagerie.rng import Dice
from zebra.menagerie.splits import KINDS, SEEN, TEST_FONTS, UNSEEN, kind_name


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """One labelled set: pictures are asked which of the class names fits."""

    size: int
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    roll: Callable[[Dice, int], tuple[Facts, int]]
    """Dice and the picture's index → its facts and its label."""


KIND_TEMPLATES = (
    "a picture of a {c}.",
    "a {c}",
    "a photo of a {c}.",
    "a drawing of a {c}.",
    "there is a {c}.",
    "this is a {c}.",
    "an illustration of a {c}.",
    "the picture shows a {c}.",
)
PHRASE_TEMPLATES = (
    "a picture of {c}.",
    "{c}",
    "a photo of {c}.",
    "a drawing of {c}.",
    "there is {c}.",
    "{c}.",
)

DESCRIPTIONS = (
    "a horse with black and white stripes",
    "a plain brown horse",
    "a white horse with black spots",
    "a black and white checkered horse",
    "a white horse with black patches",
    "a two-tone black and white horse",
    "a plain black horse",
    "a plain white horse",
    "a pig with black and white stripes",
    "a cat with black and white stripes",
    "an elephant with black and white stripes",
    "a giraffe with black and white stripes",
    "a rabbit with black and white stripes",
    "a plain gray elephant",
    "a giraffe with brown spots",
    "a plain brown camel",
    "a plain pink pig",
    "a green crocodile",
    "a white duck",
    "a striped fish",
    "a checkered turtle",
    "a patched cat",
    "a two-tone owl",
    "a striped butterfly",
    "a blue whale with spots",
    "a spotted snail",
)
"""The first is what the set shows; the others are what it must not be taken for."""

GRAINED = (
    ("striped", "thin", "thin stripes"),
    ("striped", "thick", "thick stripes"),
    ("spotted", "small", "small spots"),
    ("spotted", "large", "large spots"),
    ("checkered", "small", "small checks"),
    ("checkered", "large", "large checks"),
)


def _kinds(size: int, kinds: tuple[tuple[str, str], ...]) -> EvaluationSet:
    def roll(dice: Dice, index: int) -> tuple[Facts, int]:
        kind = kinds[index % len(kinds)]
        return single(dice, kind), KINDS.index(kind)

    return EvaluationSet(size, tuple(kind_name(*kind) for kind in KINDS), KIND_TEMPLATES, roll)


def _zebra(dice: Dice, _index: int) -> tuple[Facts, int]:
    facts = single(dice, ("horse", "striped"))
    return recoloured(facts, dice, dice.pick((("white", "black"), ("black", "white")))), 0


def _counting(dice: Dice, index: int) -> tuple[Facts, int]:
    label = index % 6
    return several(dice, dice.pick(SEEN), label + 1), label


def _distance(dice: Dice, index: int) -> tuple[Facts, int]:
    label = index % len(DISTANCES)
    return apart(dice, dice.pick(SEEN), tuple(DISTANCES)[label]), label


def _fine_grained(dice: Dice, index: int) -> tuple[Facts, int]:
    label = index % len(GRAINED)
    coat, grain, _ = GRAINED[label]
    kind = dice.pick([kind for kind in SEEN if kind[1] == coat])
    return single(dice, kind, grain), label


def _typed(dice: Dice, index: int) -> tuple[Facts, int]:
    return sign(dice, index % 10, TEST_FONTS), index % 10


DIGITS = tuple(str(digit) for digit in range(10))
DIGIT_TEMPLATES = (
    "a sign with the number {c}.",
    "the number {c}",
    "the number {c} on a sign",
    "a picture of the number {c}.",
    "the digit {c}",
    "a photo of the number {c}.",
)

DRAWN = {
    "seen-kinds": _kinds(1200, SEEN),
    "unseen-kinds": _kinds(1200, UNSEEN),
    "zebra": EvaluationSet(1000, DESCRIPTIONS, PHRASE_TEMPLATES, _zebra),
    "counting": EvaluationSet(
        600,
        ("one animal", *(f"{number} animals" for number in NUMBERS[2:7])),
        ("a picture of {c}.", "{c}", "{c}.", "a photo of {c}."),
        _counting,
    ),
    "distance": EvaluationSet(
        600, tuple(DISTANCES), ("a picture of an animal {c}.", "an animal {c}", "an animal {c}."), _distance
    ),
    "fine-grained": EvaluationSet(
        600,
        tuple(words for _, _, words in GRAINED),
        ("a picture of an animal with {c}.", "an animal with {c}", "an animal with {c}."),
        _fine_grained,
    ),
    "typed-digits": EvaluationSet(600, DIGITS, DIGIT_TEMPLATES, _typed),
    "sketch": _kinds(600, SEEN),
    "inverted": _kinds(600, SEEN),
    "noisy": _kinds(600, SEEN),
}
"""Sets that are drawn; the last three go through the shift of their name. `handwritten-digits` is real handwriting."""
