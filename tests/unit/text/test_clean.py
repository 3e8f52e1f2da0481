"""Text cleaning against its definition."""

import html
import re
import string

import ftfy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.text import clean_text
from zebra.text.clean import CLEANING_FUNCTIONS

PLAIN = "".join(sorted(set(map(chr, range(32, 127))) - {"&"}))


def reference_clean(text: str) -> str:
    """Clean a text by the definition of `clean_text`, without its fast path."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text.strip()).strip().lower()


@given(st.text(PLAIN))
def test_plain_ascii_is_cleaned_by_definition(text: str) -> None:
    assert clean_text(text) == reference_clean(text)


@given(st.text())
def test_any_text_is_cleaned_by_definition(text: str) -> None:
    assert clean_text(text) == reference_clean(text)


@given(st.text(string.printable + "&;#xé\u00a0\u2003"))
def test_only_single_inner_spaces_remain(text: str) -> None:
    assert clean_text(text).split(" ") == (clean_text(text).split() or [""])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A  Red\tHORSE \n", "a red horse"),
        ("schÃ¶n", "schön"),
        ("salt &amp; pepper", "salt & pepper"),
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("1 &lt; 2", "1 < 2"),
        ("&nbsp;dog&nbsp;", "dog"),
        ("“curly” don’t", '"curly" don\'t'),
        ("ＦＵＬＬ width", "full width"),
        ("null\x00 bell\x07", "null bell"),
        ("half a pair \ud83d", "half a pair \ufffd"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_web_text_becomes_plain_text(text: str, expected: str) -> None:
    assert clean_text(text) == expected


@pytest.mark.parametrize(
    ("cleaning", "expected"),
    [
        ("lower", "don't <b> x_y"),
        ("whitespace", "Don't <B> X_Y"),
        ("canonicalize", "dont b x y"),
        ("siglip", "don’t ltbgt xy"),
    ],
)
def test_each_cleaning_follows_its_own_rule(cleaning: str, expected: str) -> None:
    assert CLEANING_FUNCTIONS[cleaning](" Don’t  &lt;B&gt;\n X_Y ") == expected
