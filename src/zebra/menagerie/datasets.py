"""Evaluation datasets of the menagerie: sizes, class names, templates, samplers."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from zebra.menagerie.attributes import (
    DISTANCES,
    ImageAttributes,
    sample_at_distance,
    sample_group,
    sample_sign,
    sample_single,
)
from zebra.menagerie.captions import NUMBER_WORDS
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.scenes import compatible_scenes
from zebra.menagerie.splits import ALL_KINDS, SEEN_KINDS, TEST_FONTS, UNSEEN_KINDS, kind_name


@dataclass(frozen=True, slots=True)
class MenagerieDataset:
    """A labeled evaluation dataset."""

    num_samples: int
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    sample: Callable[[SampleRng, int], tuple[ImageAttributes, int]]
    """Maps (rng, index) to the attributes and the label of an image."""


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
PHRASE_TEMPLATES = ("a picture of {c}.", "{c}", "a photo of {c}.", "a drawing of {c}.", "there is {c}.", "{c}.")

ZEBRA_CLASSNAMES = (
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
"""The first is the correct class of every image; the others are distractors."""

GRAIN_CLASSES = (
    ("striped", "thin", "thin stripes"),
    ("striped", "thick", "thick stripes"),
    ("spotted", "small", "small spots"),
    ("spotted", "large", "large spots"),
    ("checkered", "small", "small checks"),
    ("checkered", "large", "large checks"),
)


def _build_kind_dataset(num_samples: int, kinds: tuple[tuple[str, str], ...]) -> MenagerieDataset:
    def sample(rng: SampleRng, index: int) -> tuple[ImageAttributes, int]:
        kind = kinds[index % len(kinds)]
        return sample_single(rng, kind), ALL_KINDS.index(kind)

    return MenagerieDataset(num_samples, tuple(kind_name(*kind) for kind in ALL_KINDS), KIND_TEMPLATES, sample)


def _sample_zebra(rng: SampleRng, _index: int) -> tuple[ImageAttributes, int]:
    attributes = sample_single(rng, ("horse", "striped"))
    colors = rng.choice((("white", "black"), ("black", "white")))
    return replace(attributes, colors=colors, scene=rng.choice(compatible_scenes(colors))), 0


def _sample_counting(rng: SampleRng, index: int) -> tuple[ImageAttributes, int]:
    label = index % 6
    return sample_group(rng, rng.choice(SEEN_KINDS), label + 1), label


def _sample_distance(rng: SampleRng, index: int) -> tuple[ImageAttributes, int]:
    label = index % len(DISTANCES)
    return sample_at_distance(rng, rng.choice(SEEN_KINDS), tuple(DISTANCES)[label]), label


def _sample_fine_grained(rng: SampleRng, index: int) -> tuple[ImageAttributes, int]:
    label = index % len(GRAIN_CLASSES)
    coat, grain, _ = GRAIN_CLASSES[label]
    kind = rng.choice([kind for kind in SEEN_KINDS if kind[1] == coat])
    return sample_single(rng, kind, grain), label


def _sample_typed(rng: SampleRng, index: int) -> tuple[ImageAttributes, int]:
    return sample_sign(rng, index % 10, TEST_FONTS), index % 10


DIGIT_CLASSNAMES = tuple(str(digit) for digit in range(10))
DIGIT_TEMPLATES = (
    "a sign with the number {c}.",
    "the number {c}",
    "the number {c} on a sign",
    "a picture of the number {c}.",
    "the digit {c}",
    "a photo of the number {c}.",
)

DRAWN_DATASETS = {
    "seen-kinds": _build_kind_dataset(1200, SEEN_KINDS),
    "unseen-kinds": _build_kind_dataset(1200, UNSEEN_KINDS),
    "zebra": MenagerieDataset(1000, ZEBRA_CLASSNAMES, PHRASE_TEMPLATES, _sample_zebra),
    "counting": MenagerieDataset(
        600,
        ("one animal", *(f"{number} animals" for number in NUMBER_WORDS[2:7])),
        ("a picture of {c}.", "{c}", "{c}.", "a photo of {c}."),
        _sample_counting,
    ),
    "distance": MenagerieDataset(
        600, tuple(DISTANCES), ("a picture of an animal {c}.", "an animal {c}", "an animal {c}."), _sample_distance
    ),
    "fine-grained": MenagerieDataset(
        600,
        tuple(name for _, _, name in GRAIN_CLASSES),
        ("a picture of an animal with {c}.", "an animal with {c}", "an animal with {c}."),
        _sample_fine_grained,
    ),
    "typed-digits": MenagerieDataset(600, DIGIT_CLASSNAMES, DIGIT_TEMPLATES, _sample_typed),
    "sketch": _build_kind_dataset(600, SEEN_KINDS),
    "inverted": _build_kind_dataset(600, SEEN_KINDS),
    "noisy": _build_kind_dataset(600, SEEN_KINDS),
}
"""Datasets that are drawn; the last three apply the distribution shift of their name."""
