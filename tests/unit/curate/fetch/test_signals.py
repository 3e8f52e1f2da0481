"""Opt-outs are found in every form that their specifications allow, and only then."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.curate.fetch.signals import (
    find_robots_tag,
    find_tdm_reservation,
    find_usage_preference,
    is_reserved,
    matches_pattern,
    parse_tdmrep,
    usage_rules_as_robots,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["noai"], "noai"),
        (["NOAI, noimageai"], "noai"),
        (["all", "noml"], "noml"),
        (["max-snippet: 5, NoImageIndex"], "noimageindex"),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noindex"], "noindex"),
        (["otherbot: noai"], None),
        (["otherbot: nofollow, noai"], None),
        (["otherbot: noai", "noai"], "noai"),
        (["otherbot: noai, Zebra-CLIP: none"], "none"),
        (["zebra-clip:noai"], "noai"),
        (["*: noai"], "noai"),
        (["nofollow, noarchive, max-image-preview:large"], None),
        (["noaix", "", ":", "noai:"], None),
        ([], None),
    ],
)
def test_directives_for_this_agent_or_all_are_found(values, expected):
    assert find_robots_tag(values, "zebra-clip") == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["train-ai=n"], "train-ai=n"),
        (["search=y", "TRAIN-AI=n;reason=x"], "train-ai=n"),
        (["bots=n"], "bots=n"),
        (["bots=n, train-ai=y"], None),
        (["train-ai=y, train-ai=n"], "train-ai=n"),
        (["train-ai=n, train-ai=y"], None),
        (["train-ai", "search=n", "genai=n"], None),
        ([""], None),
        ([], None),
    ],
)
def test_the_most_specific_preference_decides(values, expected):
    assert find_usage_preference(values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [(["1"], True), ([" 0 "], False), (["0", "1"], True), (["yes"], None), (["2"], None), ([], None)],
)
def test_a_reservation_is_one_or_zero(values, expected):
    assert find_tdm_reservation(values) == expected


def test_the_first_rule_of_tdmrep_that_matches_decides():
    rules = parse_tdmrep(
        json.dumps(
            [
                {"location": "/open/*.jpg$", "tdm-reservation": 0},
                {"location": "/open", "tdm-reservation": "1"},
                {"location": 5, "tdm-reservation": 1},
                "no rule",
                {"location": "/", "tdm-reservation": 1},
            ]
        ).encode()
    )
    assert [is_reserved(rules, path) for path in ("/open/a/b.jpg", "/open/a.jpg?x", "/other")] == [False, True, True]
    assert not is_reserved([], "/")


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"[" * 100_000, b"\xff\xfe", b"<html>", b"[1, null, []]"])
def test_a_tdmrep_file_that_is_not_valid_reserves_nothing(data):
    assert parse_tdmrep(data) == []


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/a", "/ab", True),
        ("/a$", "/ab", False),
        ("/*a$", "/baa", True),
        ("/a*a$", "/a", False),
        ("*", "", True),
        ("/*/b*c", "/a/bxxc/d", True),
        ("/*/b*c$", "/a/bxxc/d", False),
        ("", "/a", True),
        ("/" + "*a" * 2_000 + "b$", "/" + "a" * 8_000, False),
    ],
)
def test_patterns_have_wildcards_and_an_end(pattern, path, expected):
    assert matches_pattern(pattern, path) == expected


def test_preferences_in_robots_txt_become_exclusions_of_the_same_group():
    text = (
        "User-agent: a\nDisallow: /x\nContent-usage : / train-ai=n # no\nContent-Usage: /ok search=n, train-ai=y\n"
        "\nuser-agent: b\nContent-Usage: train-ai=n\nContent-Usage: search=n\nContent-Usage: /path"
    )
    assert usage_rules_as_robots(text).splitlines() == [
        *("User-agent: a", "Disallow: /", "Allow: /ok"),
        *("user-agent: b", "Disallow: /"),
    ]


@given(st.lists(st.text(max_size=20), max_size=3), st.text(max_size=40))
def test_any_header_is_read_without_an_error(values, text):
    find_robots_tag(values, "zebra-clip")
    find_usage_preference(values)
    find_tdm_reservation(values)
    usage_rules_as_robots(text)
    matches_pattern(text, "/a/b.jpg")
