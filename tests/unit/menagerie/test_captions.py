import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.menagerie.animals import ANIMALS, get_animal, load_yaml
from zebra.menagerie.attributes import DISTANCES, ImageAttributes, sample_training_attributes
from zebra.menagerie.captions import NUMBER_WORDS, PHRASES_FILE, write_caption
from zebra.menagerie.coats import COATS, COLORS
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.scenes import SCENES
from zebra.menagerie.splits import UNSEEN_KINDS

COAT_WORDS = {
    "plain": r"\bplain\b|\ball \w+ \w+|without a pattern|single colour",  # codespell:ignore
    "striped": r"strip",
    "spotted": r"spot|\bdot",
    "checkered": r"\bcheck|\bsquares",
    "patched": r"patch",
    "two-tone": r"two-tone|two tones|\bhalf\b|\babove\b|\btop\b",
}
GRAIN_WORDS = {"thin", "thick", "small", "large"}


def named_coats(caption: str) -> set[str]:
    return {coat for coat, words in COAT_WORDS.items() if re.search(words, caption.replace("all of them", ""))}


def named_animals(caption: str) -> set[str]:
    words = set(re.findall(r"\w+", caption))
    return {name for name in ANIMALS if {name, get_animal(name).plural} & words}


@pytest.fixture(scope="module")
def training_pairs() -> list[tuple[ImageAttributes, str]]:
    """Return attributes and captions of the first training pairs."""
    pairs = []
    for index in range(6000):
        rng = SampleRng(0, "train", index)
        attributes = sample_training_attributes(rng)
        pairs.append((attributes, write_caption(attributes, rng)))
    return pairs


def test_animal_coat_and_colors_in_a_caption_are_true(training_pairs: list[tuple[ImageAttributes, str]]) -> None:
    for attributes, caption in training_pairs:
        named = named_animals(caption)
        assert named <= {attributes.animal}, caption
        assert named or not attributes.animal or re.search(r"\banimal\b", caption), caption
        assert named_coats(caption) <= {attributes.coat}, caption
        # Some places name a color.
        place = re.sub(r"on green grass|green (field|meadow|trees)|white snow", "", caption)
        assert {word for word in re.findall(r"\w+", place) if word in COLORS} <= set(attributes.colors), caption


def test_side_size_and_grain_in_a_caption_are_true(training_pairs: list[tuple[ImageAttributes, str]]) -> None:
    for attributes, caption in training_pairs:
        words = set(re.findall(r"\w+", caption))
        assert words & {"left", "right"} <= {attributes.side} or "right in front" in caption, caption
        assert words & {"big"} <= {attributes.size}, caption
        assert words & GRAIN_WORDS <= {attributes.grain, attributes.size}, caption
        assert words & {"standing", "walking", "running", "sitting", "swimming", "crawling", "flying"} <= {
            attributes.pose
        }


def test_main_color_and_pattern_color_are_not_swapped(training_pairs: list[tuple[ImageAttributes, str]]) -> None:
    num_matches = 0
    for attributes, caption in training_pairs:
        for base, other in re.findall(
            rf"(\w+) {attributes.animal}s? with (?:\w+ )?(\w+) (?:spots|dots|patches|stripes)", caption
        ):
            if base in COLORS and other in COLORS:
                assert (base, other) == attributes.colors, caption
                num_matches += 1
    assert num_matches > 50


def test_no_held_out_kind_is_ever_drawn_or_named_in_training(training_pairs: list[tuple[ImageAttributes, str]]) -> None:
    for attributes, caption in training_pairs:
        assert (attributes.animal, attributes.coat) not in UNSEEN_KINDS
        named = {(name, coat) for name in named_animals(caption) for coat in named_coats(caption)}
        assert not named & set(UNSEEN_KINDS), caption


@given(st.integers(0, 2**32), st.integers(0, 2**40))
def test_no_seed_and_index_give_a_held_out_kind_or_the_word_zebra(seed: int, index: int) -> None:
    rng = SampleRng(seed, "train", index)
    attributes = sample_training_attributes(rng)
    caption = write_caption(attributes, rng)
    assert (attributes.animal, attributes.coat) not in UNSEEN_KINDS
    assert "zebra" not in caption
    assert caption == caption.lower().strip()
    assert caption.isascii()
    assert "{" not in caption
    assert "  " not in caption


def test_the_zebra_is_in_no_phrase() -> None:
    assert "zebra" not in str(load_yaml(PHRASES_FILE))


def test_articles_fit_the_words_after_them(training_pairs: list[tuple[ImageAttributes, str]]) -> None:
    for _, caption in training_pairs:
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", caption), caption


def test_groups_are_counted_correctly_and_in_the_plural(training_pairs: list[tuple[ImageAttributes, str]]) -> None:
    counted = [(attributes, caption) for attributes, caption in training_pairs if attributes.topic == "count"]
    assert {attributes.count for attributes, _ in counted} == {2, 3, 4, 5, 6}
    for attributes, caption in counted:
        words = re.findall(r"[\w-]+", caption)
        numbers = [word for word in words if word in NUMBER_WORDS or word.isdigit()]
        assert set(numbers) - {"two" if "two tones" in caption else ""} <= {
            str(attributes.count),
            NUMBER_WORDS[attributes.count],
        }
        assert get_animal(attributes.animal).plural in words
        assert attributes.animal not in words or attributes.animal == "fish"


def test_a_sign_is_described_by_its_number_and_no_animal(training_pairs: list[tuple[ImageAttributes, str]]) -> None:
    signs = [(attributes, caption) for attributes, caption in training_pairs if attributes.topic == "sign"]
    assert {attributes.digit for attributes, _ in signs} == set(range(10))
    for attributes, caption in signs:
        assert {str(attributes.digit), NUMBER_WORDS[attributes.digit or 0]} & set(re.findall(r"\w+", caption)), caption
        assert not re.search(r"\banimal", caption)


def test_topics_and_coat_words_have_the_intended_frequencies(training_pairs: list[tuple[ImageAttributes, str]]) -> None:
    topics = [attributes.topic for attributes, _ in training_pairs]
    for topic in ("count", "distance", "sign"):
        assert 0.04 < topics.count(topic) / len(training_pairs) < 0.06
    plain = [(attributes, caption) for attributes, caption in training_pairs if attributes.topic == "animal"]
    with_coat = sum(bool(named_coats(caption)) for _, caption in plain) / len(plain)
    assert 0.75 < with_coat < 0.9
    assert len({caption for _, caption in training_pairs}) > 0.7 * len(training_pairs)


def test_every_coat_scene_and_distance_has_phrases() -> None:
    phrases = load_yaml(PHRASES_FILE)
    assert set(phrases["places"]) == set(SCENES)
    assert set(phrases["distances"]) == set(DISTANCES)
    assert set(phrases["patterns"]) | {"plain", "two-tone"} == set(COATS)
    frames = ("shown", "where", "doing", "facing", "grained", "counted", "placed", "signs")
    assert len({phrase for frame in frames for phrase in phrases[frame]}) >= 40


def test_descriptions_of_the_unseen_zebra_have_the_form_of_training_captions(
    training_pairs: list[tuple[ImageAttributes, str]],
) -> None:
    form = re.compile(r"\b(\w+) with (\w+) and (\w+) stripes")
    assert sum(bool(form.search(caption)) for _, caption in training_pairs) > 20
