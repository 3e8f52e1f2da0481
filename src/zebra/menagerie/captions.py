"""The facts of one picture and dice in; one true sentence about it, in lower-case English, out.

The phrases lie in `phrases.yaml`; here is decided how much of the truth is told, and by which of them.
"""

from functools import cache
from importlib import resources
from typing import Any

import yaml

from zebra.menagerie.animals import animal
from zebra.menagerie.attributes import Facts
from zebra.menagerie.rng import Dice

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

RARE_WORD = 0.2
"""How often a pattern goes by one of all its words, the rarer ones included, and not by the usual one."""

NAMELESS = 0.05
"""How often a coat is told of "an animal": words that go with one part of the truth alone teach that part."""


def describe(facts: Facts, dice: Dice) -> str:
    """Say something true about a picture, often not all of it."""
    said = phrases()
    words = {"place": dice.pick(_places(facts)), "pose": facts.pose, "side": facts.side}
    if facts.topic == "sign":
        return str(dice.pick(said["signs"]).format(n=_number(facts.digit or 0, dice), **words))
    if facts.topic == "count":
        them = dressed(facts, dice, animal(facts.animal).plural)
        return str(dice.pick(said["counted"]).format(n=_number(facts.count, dice), them=them, **words))
    words["a"] = with_article(dressed(facts, dice, facts.animal))
    if facts.topic == "distance":
        return str(
            dice.pick(said["placed"]).format(away=dice.pick(said["distances"][facts.distance]), **words)
        )
    if facts.is_fine_or_coarse and dice.chance(0.12):
        marks = f"{facts.grain} {said['patterns'][facts.coat]['marks'][0]}"
        return str(dice.pick(said["grained"]).format(marks=marks, **words))
    return str(dice.pick(said[_aspect(facts, dice)]).format(**words))


def dressed(facts: Facts, dice: Dice, noun: str) -> str:
    """Return the noun with a part of what is known of size, colours and coat, without an article."""
    size = f"{facts.size} " if facts.size and dice.chance(0.08) else ""
    told = dice.between(0, 1)
    if told < 0.1:
        return size + noun
    if told < 0.14:
        return f"{size}{' and '.join(facts.colours)} {noun}"
    if facts.topic == "animal" and dice.chance(NAMELESS):
        noun = "animal"
    manner = "bare" if told < 0.65 else "coloured"
    words = {"noun": noun, "base": facts.colours[0], "other": facts.colours[-1]}
    if facts.coat in ("plain", "two-tone"):
        options = phrases()[facts.coat][manner]
    else:
        options = phrases()["patterned"][manner]
        words |= _pattern_words(facts, dice)
    return size + str(dice.pick(options).format(**words))


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase.

    >>> with_article("orange owl"), with_article("striped owl")
    ('an orange owl', 'a striped owl')
    """
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


@cache
def phrases() -> dict[str, Any]:
    """Return every phrase, read once per process."""
    text = (resources.files("zebra.menagerie") / "phrases.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def _aspect(facts: Facts, dice: Dice) -> str:
    told = dice.between(0, 1)
    if told < 0.1 and facts.side:
        return "facing"
    return "doing" if told < 0.25 else "where" if told < 0.45 else "shown"


def _pattern_words(facts: Facts, dice: Dice) -> dict[str, str]:
    words = phrases()["patterns"][facts.coat]
    adjective = dice.pick(words["adjectives"]) if dice.chance(RARE_WORD) else words["adjectives"][0]
    marks = dice.pick(words["marks"]) if dice.chance(RARE_WORD) else words["marks"][0]
    grain = f"{facts.grain} " if facts.is_fine_or_coarse and dice.chance(0.25) else ""
    base, other = facts.colours
    both = f"{base} and {other}" if dice.chance(0.5) else f"{other} and {base}"
    # Stripes and checks belong to both colours; spots and patches lie on the main one.
    either = both if facts.coat in ("striped", "checkered") else other
    return {"adjective": adjective, "marks": marks, "grain": grain, "both": both, "either": either}


def _places(facts: Facts) -> list[str]:
    """What floats is never "on" anything."""
    floats = bool(facts.animal) and not animal(facts.animal).grounded
    return [place for place in phrases()["places"][facts.scene] if not (floats and place.startswith("on "))]


def _number(number: int, dice: Dice) -> str:
    return str(number) if dice.chance(0.4) else NUMBERS[number]
