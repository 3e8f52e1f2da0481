import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.menagerie.animals import ANIMALS, get_animal
from zebra.menagerie.attributes import DISTANCES, ImageAttributes, sample_training_attributes
from zebra.menagerie.captions import NUMBER_WORDS, load_phrases, write_caption
from zebra.menagerie.coats import COATS, COLORS
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.scenes import SCENES
from zebra.menagerie.splits import UNSEEN_KINDS

COAT_WORDS = {
    "plain": r"\bplain\b|\ball \w+ \w+|without a pattern|single colour",
    "striped": r"strip",
    "spotted": r"spot|\bdot",
    "checkered": r"\bcheck|\bsquares",
    "patched": r"patch",
    "two-tone": r"two-tone|two tones|\bhalf\b|\babove\b|\btop\b",
}
GRAIN_WORDS = {"thin", "thick", "small", "large"}


def coats_said(caption: str) -> set[str]:
    return {
        coat for coat, words in COAT_WORDS.items() if re.search(words, caption.replace("all of them", ""))
    }


def animals_said(caption: str) -> set[str]:
    words = set(re.findall(r"\w+", caption))
    return {name for name in ANIMALS if {name, get_animal(name).plural} & words}


@pytest.fixture(scope="module")
def told() -> list[tuple[ImageAttributes, str]]:
    """Facts and captions of the first training pairs."""
    pairs = []
    for index in range(6000):
        dice = SampleRng(0, "train", index)
        facts = sample_training_attributes(dice)
        pairs.append((facts, write_caption(facts, dice)))
    return pairs


def test_what_a_caption_says_of_animal_coat_and_colours_is_true(
    told: list[tuple[ImageAttributes, str]],
) -> None:
    for facts, caption in told:
        named = animals_said(caption)
        assert named <= {facts.animal}, caption
        assert named or not facts.animal or re.search(r"\banimal\b", caption), caption
        assert coats_said(caption) <= {facts.coat}, caption
        # The places have colours of their own.
        place = re.sub(r"on green grass|green (field|meadow|trees)|white snow", "", caption)
        assert {word for word in re.findall(r"\w+", place) if word in COLORS} <= set(facts.colors), caption


def test_what_a_caption_says_of_side_size_and_grain_is_true(told: list[tuple[ImageAttributes, str]]) -> None:
    for facts, caption in told:
        words = set(re.findall(r"\w+", caption))
        assert words & {"left", "right"} <= {facts.side} or "right in front" in caption, caption
        assert words & {"big"} <= {facts.size}, caption
        assert words & GRAIN_WORDS <= {facts.grain, facts.size}, caption
        assert words & {"standing", "walking", "running", "sitting", "swimming", "crawling", "flying"} <= {
            facts.pose
        }


def test_words_for_the_main_colour_and_the_pattern_are_not_swapped(
    told: list[tuple[ImageAttributes, str]],
) -> None:
    found = 0
    for facts, caption in told:
        for base, other in re.findall(
            rf"(\w+) {facts.animal}s? with (?:\w+ )?(\w+) (?:spots|dots|patches|stripes)", caption
        ):
            if base in COLORS and other in COLORS:
                assert (base, other) == facts.colors, caption
                found += 1
    assert found > 50


def test_no_held_out_kind_is_ever_shown_or_said_in_training(told: list[tuple[ImageAttributes, str]]) -> None:
    for facts, caption in told:
        assert (facts.animal, facts.coat) not in UNSEEN_KINDS
        said = {(name, coat) for name in animals_said(caption) for coat in coats_said(caption)}
        assert not said & set(UNSEEN_KINDS), caption


@given(st.integers(0, 2**32), st.integers(0, 2**40))
def test_no_seed_and_index_show_a_held_out_kind_or_say_zebra(seed: int, index: int) -> None:
    dice = SampleRng(seed, "train", index)
    facts = sample_training_attributes(dice)
    caption = write_caption(facts, dice)
    assert (facts.animal, facts.coat) not in UNSEEN_KINDS
    assert "zebra" not in caption
    assert caption == caption.lower().strip()
    assert caption.isascii()
    assert "{" not in caption
    assert "  " not in caption


def test_the_zebra_is_in_no_phrase() -> None:
    assert "zebra" not in str(load_phrases())


def test_articles_fit_the_words_after_them(told: list[tuple[ImageAttributes, str]]) -> None:
    for _, caption in told:
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", caption), caption


def test_several_animals_are_counted_truly_and_in_the_plural(told: list[tuple[ImageAttributes, str]]) -> None:
    counted = [(facts, caption) for facts, caption in told if facts.topic == "count"]
    assert {facts.count for facts, _ in counted} == {2, 3, 4, 5, 6}
    for facts, caption in counted:
        words = re.findall(r"[\w-]+", caption)
        numbers = [word for word in words if word in NUMBER_WORDS or word.isdigit()]
        assert set(numbers) - {"two" if "two tones" in caption else ""} <= {
            str(facts.count),
            NUMBER_WORDS[facts.count],
        }
        assert get_animal(facts.animal).plural in words
        assert facts.animal not in words or facts.animal == "fish"


def test_a_sign_is_described_by_its_number_and_by_no_animal(told: list[tuple[ImageAttributes, str]]) -> None:
    signs = [(facts, caption) for facts, caption in told if facts.topic == "sign"]
    assert {facts.digit for facts, _ in signs} == set(range(10))
    for facts, caption in signs:
        assert {str(facts.digit), NUMBER_WORDS[facts.digit or 0]} & set(re.findall(r"\w+", caption)), caption
        assert not re.search(r"\banimal", caption)


def test_the_shares_of_what_is_shown_and_said_are_as_meant(told: list[tuple[ImageAttributes, str]]) -> None:
    topics = [facts.topic for facts, _ in told]
    for topic in ("count", "distance", "sign"):
        assert 0.04 < topics.count(topic) / len(told) < 0.06
    plain = [(facts, caption) for facts, caption in told if facts.topic == "animal"]
    with_coat = sum(bool(coats_said(caption)) for _, caption in plain) / len(plain)
    assert 0.75 < with_coat < 0.9
    assert len({caption for _, caption in told}) > 0.7 * len(told)


def test_every_coat_scene_and_distance_has_its_phrases() -> None:
    said = load_phrases()
    assert set(said["places"]) == set(SCENES)
    assert set(said["distances"]) == set(DISTANCES)
    assert set(said["patterns"]) | {"plain", "two-tone"} == set(COATS)
    frames = ("shown", "where", "doing", "facing", "grained", "counted", "placed", "signs")
    assert len({phrase for frame in frames for phrase in said[frame]}) >= 40


def test_descriptions_of_the_unseen_zebra_have_the_form_of_training_captions(
    told: list[tuple[ImageAttributes, str]],
) -> None:
    form = re.compile(r"\b(\w+) with (\w+) and (\w+) stripes")
    assert sum(bool(form.search(caption)) for _, caption in told) > 20
