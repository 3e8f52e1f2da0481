"""Tests of finding the frames of captions."""

import random

from hypothesis import given
from hypothesis import strategies as st

from zebra.text.caption_frames import find_caption_frames, strip_frame

NOUNS = [
    f"{size} {animal}" for size in ("big", "small", "old", "young") for animal in ("dog", "cat", "cow", "owl", "fox")
]


def test_frames_that_share_their_fillers_are_found() -> None:
    captions = [template.format(noun) for template in ("a photo of a {}.", "this is a {}", "{}") for noun in NOUNS]
    assert {"a photo of a {}.", "this is a {}"} <= set(find_caption_frames(captions))


def test_bare_names_have_no_frame_even_if_they_share_words() -> None:
    names = [f"{animal} face" for animal in ("dog", "cat", "cow", "owl", "fox", "bear")]
    names += ["house", "car", "tree", "ship", "moon", "chair", "table", "shoe", "hat", "glass"]
    assert find_caption_frames(names) == ()


def test_only_the_longest_of_nested_frames_remains() -> None:
    nouns = ("dog", "cat", "cow", "owl", "fox", "bear")
    assert find_caption_frames([f"a photo of a {noun}." for noun in nouns]) == ("a photo of a {}.",)


def test_languages_without_spaces_have_frames_too() -> None:
    nouns = ["馬", "猫", "犬", "牛", "象", "鳥", "魚", "虎"]
    captions = [template.format(noun) for template in ("{}の写真", "これは{}です") for noun in nouns]
    assert set(find_caption_frames(captions)) == {"{}の写真", "これは{}です"}


def test_the_filler_of_the_longest_frame_is_the_label() -> None:
    frames = ("a {}", "a photo of a {}.")
    assert strip_frame("a photo of a dog.", frames) == "dog"
    assert strip_frame("a dog", frames) == "dog"
    assert strip_frame(" two dogs ", frames) == "two dogs"
    assert strip_frame("a photo of a .", frames) == "photo of a ."


@given(st.lists(st.text(max_size=30), max_size=40), st.randoms())
def test_frames_have_one_placeholder_and_do_not_depend_on_the_order(captions: list[str], rng: random.Random) -> None:
    frames = find_caption_frames(captions)
    assert all(frame.count("{}") == 1 and frame != "{}" for frame in frames)
    shuffled = captions.copy()
    rng.shuffle(shuffled)
    assert find_caption_frames(shuffled) == frames
    for caption in captions:
        label = strip_frame(caption, frames)
        assert label == caption.strip() or any(frame.format(label) == caption.strip() for frame in frames)
