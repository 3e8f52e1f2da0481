"""robots.txt of any kind is honored for the right agent, and read once."""

import pytest

from .conftest import ROBOTS

EXCLUDED = ("permanent", "excluded by robots.txt")
UNREADABLE = ("passing", "robots.txt cannot be read")
KEPT = ("kept", None)


@pytest.mark.parametrize(
    ("robots", "kind", "expected"),
    [
        ("missing", "ok", KEPT),
        ("error", "ok", UNREADABLE),
        ("busy", "ok", UNREADABLE),
        ("none", "ok", EXCLUDED),
        ("us", "ok", EXCLUDED),
        ("us", "moved", EXCLUDED),  # where it redirects to is excluded
        ("us", "placeholder", KEPT),  # the group of all agents does not apply
        ("others", "ok", KEPT),
        ("latin", "ok", EXCLUDED),
        ("utf16", "ok", EXCLUDED),
        ("large", "ok", KEPT),
        ("large", "noai", EXCLUDED),
        ("usage", "ok", ("permanent", "excluded by Content-Usage")),
        ("html", "ok", KEPT),
    ],
)
def test_robots_txt_decides(server, fetch, robots, kind, expected):
    url = server.url(kind, 1, host=ROBOTS.index(robots) + 1)
    image = fetch([url])[url]
    assert (image.status, image.reason) == expected


def test_a_robots_txt_that_does_not_arrive_excludes_for_now(server, fetch, monkeypatch):
    monkeypatch.setattr("zebra.curate.fetch.sites.TIMEOUT_SECONDS", 0.2)
    monkeypatch.setitem(server.robots, 12, "silent")
    url = server.url("ok", 1, host=12)
    image = fetch([url])[url]
    assert (image.status, image.reason) == UNREADABLE


def test_a_robots_txt_of_many_wildcards_takes_no_time_that_grows_with_their_number(server, fetch):
    url = server.url("ok", int("1" * 1_000), host=ROBOTS.index("wildcards") + 1)
    assert fetch([url])[url].status == "kept"


def test_files_of_a_site_are_read_once(server, fetch):
    before = server.requests["/robots.txt"], server.requests["/.well-known/tdmrep.json"]
    fetch([server.url("ok", number, host=11) for number in range(10)])
    assert (server.requests["/robots.txt"], server.requests["/.well-known/tdmrep.json"]) == (
        before[0] + 1,
        before[1] + 1,
    )


@pytest.mark.parametrize(
    ("signal", "kind", "host"),
    [
        ("robots", "ok", ROBOTS.index("none") + 1),
        ("x-robots-tag", "noai", 1),
        ("tdmrep", "tdm", 1),
        ("tdmrep", "reserved", 1),
        ("content-usage", "usage", 1),
        ("content-usage", "ok", ROBOTS.index("usage") + 1),
    ],
)
def test_a_signal_can_be_ignored_alone(server, fetch, signal, kind, host):
    url = server.url(kind, 5, host)
    assert fetch([url], ignore_signals=(signal,))[url].status == "kept"
    others = {"robots", "x-robots-tag", "tdmrep", "content-usage"} - {signal}
    assert fetch([url], ignore_signals=tuple(sorted(others)), folder="others")[url].status == "permanent"
