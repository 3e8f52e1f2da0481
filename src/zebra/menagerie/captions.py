"""The facts of one picture and dice in; one true sentence about it, in lower-case English, out.

The phrases lie in `phrases.yaml`; here is decided how much of the truth is told, and by which of them.
"""

from functools import cache
from importlib import resources
from typing import Any

import yaml

from zebra.menagerie.animals import get_animal
from zebra.menagerie.attributes import ImageAttributes
from zebra.menagerie.rng import SampleRng

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

RARE_WORD_PROBABILITY = 0.2
"""How often a pattern goes by one of all its words, the rarer ones included, and not by the usual one."""

GENERIC_NOUN_PROBABILITY = 0.05
"""How often a coat is told of "an animal": words that go with one part of the truth alone teach that part."""


def write_caption(attributes: ImageAttributes, rng: SampleRng) -> str:
    """Say something true about a picture, often not all of it."""
    said = load_phrases()
    words = {
        "place": rng.choice(_list_place_phrases(attributes)),
        "pose": attributes.pose,
        "side": attributes.side,
    }
    if attributes.topic == "sign":
        return str(rng.choice(said["signs"]).format(n=_format_number(attributes.digit or 0, rng), **words))
    if attributes.topic == "count":
        them = describe_animal(attributes, rng, get_animal(attributes.animal).plural)
        return str(
            rng.choice(said["counted"]).format(n=_format_number(attributes.count, rng), them=them, **words)
        )
    words["a"] = add_article(describe_animal(attributes, rng, attributes.animal))
    if attributes.topic == "distance":
        return str(
            rng.choice(said["placed"]).format(
                away=rng.choice(said["distances"][attributes.distance]), **words
            )
        )
    if attributes.is_fine_or_coarse and rng.bernoulli(0.12):
        marks = f"{attributes.grain} {said['patterns'][attributes.coat]['marks'][0]}"
        return str(rng.choice(said["grained"]).format(marks=marks, **words))
    return str(rng.choice(said[_choose_phrase_kind(attributes, rng)]).format(**words))


def describe_animal(attributes: ImageAttributes, rng: SampleRng, noun: str) -> str:
    """Return the noun with a part of what is known of size, colours and coat, without an article."""
    size = f"{attributes.size} " if attributes.size and rng.bernoulli(0.08) else ""
    told = rng.uniform(0, 1)
    if told < 0.1:
        return size + noun
    if told < 0.14:
        return f"{size}{' and '.join(attributes.colors)} {noun}"
    if attributes.topic == "animal" and rng.bernoulli(GENERIC_NOUN_PROBABILITY):
        noun = "animal"
    manner = "bare" if told < 0.65 else "coloured"
    words = {"noun": noun, "base": attributes.colors[0], "other": attributes.colors[-1]}
    if attributes.coat in ("plain", "two-tone"):
        options = load_phrases()[attributes.coat][manner]
    else:
        options = load_phrases()["patterned"][manner]
        words |= _choose_pattern_words(attributes, rng)
    return size + str(rng.choice(options).format(**words))


def add_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase.

    >>> with_article("orange owl"), with_article("striped owl")
    ('an orange owl', 'a striped owl')
    """
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


@cache
def load_phrases() -> dict[str, Any]:
    """Return every phrase, read once per process."""
    text = (resources.files("zebra.menagerie") / "phrases.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def _choose_phrase_kind(attributes: ImageAttributes, rng: SampleRng) -> str:
    told = rng.uniform(0, 1)
    if told < 0.1 and attributes.side:
        return "facing"
    return "doing" if told < 0.25 else "where" if told < 0.45 else "shown"


def _choose_pattern_words(attributes: ImageAttributes, rng: SampleRng) -> dict[str, str]:
    words = load_phrases()["patterns"][attributes.coat]
    adjective = (
        rng.choice(words["adjectives"]) if rng.bernoulli(RARE_WORD_PROBABILITY) else words["adjectives"][0]
    )
    marks = rng.choice(words["marks"]) if rng.bernoulli(RARE_WORD_PROBABILITY) else words["marks"][0]
    grain = f"{attributes.grain} " if attributes.is_fine_or_coarse and rng.bernoulli(0.25) else ""
    base, other = attributes.colors
    both = f"{base} and {other}" if rng.bernoulli(0.5) else f"{other} and {base}"
    # Stripes and checks belong to both colours; spots and patches lie on the main one.
    either = both if attributes.coat in ("striped", "checkered") else other
    return {"adjective": adjective, "marks": marks, "grain": grain, "both": both, "either": either}


def _list_place_phrases(attributes: ImageAttributes) -> list[str]:
    """What floats is never "on" anything."""
    floats = bool(attributes.animal) and not get_animal(attributes.animal).is_grounded
    return [
        place
        for place in load_phrases()["places"][attributes.scene]
        if not (floats and place.startswith("on "))
    ]


def _format_number(number: int, rng: SampleRng) -> str:
    return str(number) if rng.bernoulli(0.4) else NUMBER_WORDS[number]
