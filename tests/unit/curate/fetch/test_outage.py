"""When nearly all hosts fail at once, requests pause; hosts that are gone do not look like an outage."""

import asyncio
import socket
import time

import pytest

from zebra.curate.fetch import outage
from zebra.curate.fetch.outage import OutageDetector
from zebra.curate.fetch.urls import parse_url
from zebra.errors import DownloadError


@pytest.fixture(autouse=True)
def _short_outages(monkeypatch):
    monkeypatch.setattr(outage, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("zebra.curate.fetch.resolver.FAILURE_LIFETIME_SECONDS", 0.01)


def lookup_during_outage(num_answers, end_seconds):
    """Return a resolver that finds 127.0.0.12 for some calls, and then nothing until a time."""
    end, calls = time.monotonic() + end_seconds, []

    async def lookup(_host):
        calls.append(1)
        if len(calls) > num_answers and time.monotonic() < end:
            raise socket.gaierror(socket.EAI_AGAIN, "temporary failure")
        return ["127.0.0.12"]

    return lookup


def test_an_outage_costs_no_image(server, fetch):
    urls = [f"http://host{number}.test:{server.port}/ok/{number}.jpg" for number in range(60)]
    images = fetch(urls, lookup=lookup_during_outage(1, 0.5), max_connections=8, max_tries=2)
    assert {(image.status, image.num_tries) for image in images.values()} <= {("kept", 1), ("kept", 2)}
    assert len(images) == 60


def test_an_outage_that_lasts_ends_the_run_and_the_same_call_continues(server, fetch):
    urls = [f"http://host{number}.test:{server.port}/ok/{number}.jpg" for number in range(60)]
    with pytest.raises(DownloadError, match="run the same command again"):
        fetch(urls, lookup=lookup_during_outage(1, 1000), max_outage_seconds=0.1, max_connections=8)
    images = fetch(urls, lookup=lookup_during_outage(0, 0), again=True)
    assert {image.status for image in images.values()} == {"kept"}


def test_without_any_host_that_ever_responded_all_get_an_outcome(fetch):
    urls = [f"http://host{number}.test/a.jpg" for number in range(100)]
    images = fetch(urls, lookup=lookup_during_outage(0, 1000))
    assert {(image.status, image.reason) for image in images.values()} == {("passing", "host lookup failed")}
    assert len(images) == 100


def detect(hosts, *, is_reachable):
    """Record hosts in turn, reached or not; return how many hosts were tried to confirm an outage."""
    tried = []

    async def try_host(url):
        tried.append(url.host)
        return is_reachable

    async def scenario():
        detector = OutageDetector(1.0, try_host)
        for number, is_reached in enumerate(hosts):
            url = parse_url(f"http://host{number}.test/")
            (detector.record_response if is_reached else detector.record_failure)(url)
        await detector.wait_until_over()
        return detector.is_active

    assert not asyncio.run(scenario())
    return len(tried)


def test_hosts_that_are_gone_one_after_another_are_no_outage_while_others_respond():
    assert detect([True] + [False] * 25, is_reachable=True) == 1
    assert detect([True, False] * 50, is_reachable=True) == 0
    assert detect([False] * 19, is_reachable=True) == 0
