"""The matcher finds exactly the entries that a literal search finds."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zebra.curate.caption_tokens import UNSPACED_RANGES
from zebra.curate.match import EntryMatcher
from zebra.errors import ConfigError, DataError


def add_spaces(text: str) -> str:
    """Return a text with spaces as MetaCLIP's matching adds them, except at its ends."""
    text = re.sub(r"[\t\r\n]", " ", text)
    for mark in ",.;:?!`":
        text = text.replace(mark, f" {mark} ")
    return text


def is_unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in UNSPACED_RANGES)


def match_literally(entries: list[str], text: str) -> list[int]:
    """Return the entries in a text; an entry gets a space at each end that is not of a script without spaces."""
    text, found = f" {add_spaces(text)} ", []
    for number, entry in enumerate(map(str.strip, entries)):
        left, right = ("" if is_unspaced(entry[end]) else " " for end in (0, -1))
        if f"{left}{add_spaces(entry)}{right}" in text:
            found.append(number)
    return found


def match_one(entries: list[str], text: str) -> list[int]:
    row_M, entry_M = EntryMatcher(entries).match(pa.array([text]))
    assert not row_M.any()
    return entry_M.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red horse", ["a red", "red horse", "horse"]),
        ("A Red horse", ["horse"]),
        ("a red, horse", ["a red", "horse", "red,"]),
        ("seahorse", []),
        ("a  red horse", ["red horse", "horse"]),
        ("a\tred\nhorse", ["a red", "red horse", "horse"]),
        ("the U.S.A. and more", ["U.S.A."]),
        ("", []),
        ("horse", ["horse"]),
        ("horse horse", ["horse"]),
    ],
)
def test_entries_are_runs_of_whole_words(text: str, expected: list[str]) -> None:
    entries = ["a red", "red horse", "horse", "red,", "U.S.A.", "red horse race"]
    found = [entries[number] for number in match_one(entries, text)]
    assert sorted(found) == sorted(expected)
    assert match_one(entries, text) == match_literally(entries, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("黒猫と犬", ["猫", "黒猫", "猫と"]),
        ("猫 と犬", ["猫", "猫 と"]),
        ("the 猫cat", ["猫", "猫cat", "the 猫"]),
        ("猫cats", ["猫"]),
        ("scat猫", ["猫"]),
        ("cat猫", ["猫", "cat猫"]),
        ("猫,犬", ["猫", "猫,犬"]),
        ("猫, 犬", ["猫"]),
        ("แมวดำ", ["แมว"]),
        ("𠀋", ["𠀋"]),
        ("猫", ["猫"]),
        ("é ü ” 한국어", ["한국어"]),
        ("한국어의", []),
    ],
)
def test_entries_match_inside_runs_of_scripts_without_spaces(text: str, expected: list[str]) -> None:
    entries = ["猫", "黒猫", "猫と", "猫 と", "猫cat", "the 猫", "cat猫", "猫,犬", "แมว", "𠀋", "한국어"]
    found = [entries[number] for number in match_one(entries, text)]
    assert sorted(found) == sorted(expected)
    assert match_one(entries, text) == match_literally(entries, text)


WORDS = st.text(st.sampled_from("ab ,.!\tü"), max_size=14)
SCRIPTS = st.text(st.sampled_from("ab ,.\nü猫犬แ𠀋🦓한"), max_size=10)
LONG_WORDS = st.lists(st.sampled_from(["abcdefgh", "abcdefghi", "x", " ", "ü"]), max_size=6).map("".join)


@settings(deadline=None)
@given(st.data(), st.sampled_from([WORDS, SCRIPTS, LONG_WORDS]))
def test_matches_are_those_of_a_literal_search(data: st.DataObject, texts_of: st.SearchStrategy[str]) -> None:
    distinct = {"unique_by": lambda entry: add_spaces(entry.strip())}
    entries = data.draw(st.lists(texts_of.filter(str.strip), min_size=1, max_size=8, **distinct))
    texts = data.draw(st.lists(texts_of, max_size=6))
    row_M, entry_M = EntryMatcher(entries).match(pa.array(texts, pa.string()))
    expected = [(row, entry) for row, text in enumerate(texts) for entry in match_literally(entries, text)]
    assert list(zip(row_M.tolist(), entry_M.tolist(), strict=True)) == expected


def test_all_of_many_entries_are_found_and_nothing_else() -> None:
    entries = [f"{first} {second}" for first in range(100) for second in range(100)]
    entries += [str(number) for number in range(100)]
    row_M, entry_M = EntryMatcher(entries).match(pa.array(["100 x", *entries]))
    num_found = np.bincount(row_M, minlength=len(entries) + 1)
    assert num_found[:5].tolist() == [0, 2, 3, 3, 3]  # "0 0" has two entries, "0 1" has "0", "1" and itself
    assert num_found.sum() == 3 * 10_000 - 100 + 100
    assert np.isin(np.arange(len(entries)) << 32 | np.arange(len(entries)), (row_M - 1) << 32 | entry_M).all()


def test_rows_are_counted_over_blocks_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zebra.curate.match.BLOCK_SIZE", 2)
    matcher = EntryMatcher(["dog", "cat"])
    text = pa.chunked_array([["a dog", "x", "a cat", None, "cat dog"], [], ["dog", ""]], pa.string())
    row_M, entry_M = matcher.match(text)
    assert row_M.tolist() == [0, 2, 4, 4, 5]
    assert entry_M.tolist() == [0, 1, 0, 1, 0]
    assert [len(values) for values in matcher.match(pa.array([], pa.string()))] == [0, 0]


def test_a_caption_that_is_not_utf8_is_reported() -> None:
    text = pa.array([b"a \xff dog"]).view(pa.string())
    with pytest.raises(DataError, match="UTF-8"):
        EntryMatcher(["dog"]).match(text)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["a", " "], "entry 1 is empty"),
        (["a", "b", " a"], "entries 0 and 2 are both 'a'"),
        (["x", "a b", "a", "a\tb"], "entries 1 and 3"),
        ([""], "entry 0 is empty"),
        ([], "no entries"),
    ],
)
def test_empty_and_repeated_entries_are_refused(entries: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EntryMatcher(entries)
