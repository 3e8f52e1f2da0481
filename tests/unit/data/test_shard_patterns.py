"""Patterns of shards are expanded as a shell does, within a limit that is checked first."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.data.shard_patterns import MAX_NAMES_LISTED, expand_braces, make_brace_pattern
from zebra.errors import DataError


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..10}.tar", ["08.tar", "09.tar", "10.tar"]),
        ("{3..1}.tar", ["3.tar", "2.tar", "1.tar"]),
        ("{0000..0000}.tar", ["0000.tar"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
        ("{a..c}.tar", ["a..c.tar"]),
        ("{}.tar", [".tar"]),
    ],
)
def test_ranges_and_choices_are_expanded(pattern: str, names: list[str]) -> None:
    assert expand_braces(pattern) == names


@pytest.mark.parametrize(
    "pattern", ["{0..999999999}.tar", "{a,b}" * 24 + ".tar", "{a,b}" * 20_000, "{0..999}/{0..999}/{0,1}.tar"]
)
def test_a_pattern_of_too_many_names_is_refused_before_it_takes_memory(pattern: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="names more than 1,000,000 files"):
            expand_braces(pattern)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@given(first=st.integers(0, 2000), count=st.integers(1, 50), width=st.integers(1, 6))
def test_the_pattern_of_numbered_names_expands_to_them(first: int, count: int, width: int) -> None:
    names = [f"x2-{number:0{width}d}.tar" for number in range(first, first + count)]
    pattern = make_brace_pattern(names)
    # Unpadded numbers of different width, such as 9 and 10, are no range of a fixed width.
    assert pattern is not None or (count > MAX_NAMES_LISTED and width < len(str(first + count)))
    assert pattern is None or expand_braces(pattern) == names


@pytest.mark.parametrize("names", [["0.tar", "2.tar"], ["a0.tar", "b1.tar"], ["a.tar"], ["0.tar", "1000000000000.tar"]])
def test_a_few_other_names_are_listed(names: list[str]) -> None:
    assert expand_braces(make_brace_pattern(names)) == names


def test_many_other_names_have_no_pattern() -> None:
    assert make_brace_pattern([f"{2 * number}.tar" for number in range(100)]) is None
