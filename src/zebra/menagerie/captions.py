"""Write a true lower-case English caption from the attributes of an image.

This module chooses which attributes to mention, and the phrase.
"""

from zebra.menagerie.animals import get_animal, load_yaml
from zebra.menagerie.attributes import ImageAttributes
from zebra.menagerie.rng import SampleRng

PHRASES_FILE = "phrases.yaml"
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

RARE_WORD_PROBABILITY = 0.2
"""Probability that a pattern gets a random one of its names instead of the usual one."""

GENERIC_NOUN_PROBABILITY = 0.05
"""Probability of "an animal" with a coat instead of its name, so that the words for coats are learned separately."""


def write_caption(attributes: ImageAttributes, rng: SampleRng) -> str:
    """Return a true caption that mentions some of the attributes."""
    phrases = load_yaml(PHRASES_FILE)
    fields = {"place": rng.choice(_list_place_phrases(attributes)), "pose": attributes.pose, "side": attributes.side}
    if attributes.topic == "sign":
        return str(rng.choice(phrases["signs"]).format(n=_format_number(attributes.digit or 0, rng), **fields))
    if attributes.topic == "count":
        them = describe_animal(attributes, rng, get_animal(attributes.animal).plural)
        return str(rng.choice(phrases["counted"]).format(n=_format_number(attributes.count, rng), them=them, **fields))
    fields["a"] = add_article(describe_animal(attributes, rng, attributes.animal))
    if attributes.topic == "distance":
        return str(
            rng.choice(phrases["placed"]).format(away=rng.choice(phrases["distances"][attributes.distance]), **fields)
        )
    if attributes.is_fine_or_coarse and rng.bernoulli(0.12):
        marks = f"{attributes.grain} {phrases['patterns'][attributes.coat]['marks'][0]}"
        return str(rng.choice(phrases["grained"]).format(marks=marks, **fields))
    return str(rng.choice(phrases[_choose_phrase_kind(attributes, rng)]).format(**fields))


def describe_animal(attributes: ImageAttributes, rng: SampleRng, noun: str) -> str:
    """Return the noun with some of size, colors and coat, without an article."""
    size = f"{attributes.size} " if attributes.size and rng.bernoulli(0.08) else ""
    u = rng.uniform(0, 1)
    if u < 0.1:
        return size + noun
    if u < 0.14:
        return f"{size}{' and '.join(attributes.colors)} {noun}"
    if attributes.topic == "animal" and rng.bernoulli(GENERIC_NOUN_PROBABILITY):
        noun = "animal"
    manner = "bare" if u < 0.65 else "colored"
    fields = {"noun": noun, "base": attributes.colors[0], "other": attributes.colors[-1]}
    if attributes.coat in ("plain", "two-tone"):
        options = load_yaml(PHRASES_FILE)[attributes.coat][manner]
    else:
        options = load_yaml(PHRASES_FILE)["patterned"][manner]
        fields |= _choose_pattern_words(attributes, rng)
    return size + str(rng.choice(options).format(**fields))


def add_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase.

    >>> add_article("orange owl"), add_article("striped owl")
    ('an orange owl', 'a striped owl')
    """
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _choose_phrase_kind(attributes: ImageAttributes, rng: SampleRng) -> str:
    u = rng.uniform(0, 1)
    if u < 0.1 and attributes.side:
        return "facing"
    return "doing" if u < 0.25 else "where" if u < 0.45 else "shown"


def _choose_pattern_words(attributes: ImageAttributes, rng: SampleRng) -> dict[str, str]:
    words = load_yaml(PHRASES_FILE)["patterns"][attributes.coat]
    adjective = rng.choice(words["adjectives"]) if rng.bernoulli(RARE_WORD_PROBABILITY) else words["adjectives"][0]
    marks = rng.choice(words["marks"]) if rng.bernoulli(RARE_WORD_PROBABILITY) else words["marks"][0]
    grain = f"{attributes.grain} " if attributes.is_fine_or_coarse and rng.bernoulli(0.25) else ""
    base, other = attributes.colors
    both = f"{base} and {other}" if rng.bernoulli(0.5) else f"{other} and {base}"
    # Stripes and checks have both colors; spots and patches have the second color only.
    either = both if attributes.coat in ("striped", "checkered") else other
    return {"adjective": adjective, "marks": marks, "grain": grain, "both": both, "either": either}


def _list_place_phrases(attributes: ImageAttributes) -> list[str]:
    """Return the phrases for the scene; a floating animal is never "on" anything."""
    floats = bool(attributes.animal) and not get_animal(attributes.animal).is_grounded
    return [
        place
        for place in load_yaml(PHRASES_FILE)["places"][attributes.scene]
        if not (floats and place.startswith("on "))
    ]


def _format_number(number: int, rng: SampleRng) -> str:
    return str(number) if rng.bernoulli(0.4) else NUMBER_WORDS[number]
