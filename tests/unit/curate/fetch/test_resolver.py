"""Only public addresses are contacted, whatever a name says, and says later."""

import asyncio
import socket

import pytest

from zebra.config.fetch import FetchConfig
from zebra.curate.fetch import resolver
from zebra.curate.fetch.fetcher import Fetcher
from zebra.curate.fetch.outcome import FetchFailure
from zebra.curate.fetch.resolver import HostResolver
from zebra.data.addresses import is_public

PUBLIC = "93.184.215.14"


def resolve(answers, host="site.test", times=1):
    """Resolve a name several times whose answers follow one another; return the answers."""
    remaining = iter(answers)

    async def lookup(_host):
        answer = next(remaining)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scenario():
        host_resolver = HostResolver(is_public, lookup)
        try:
            return [await host_resolver.resolve(host) for _ in range(times)]
        finally:
            host_resolver.close()

    return asyncio.run(scenario())


def test_an_answer_is_reused():
    assert resolve([[PUBLIC]], times=3) == [[PUBLIC]] * 3


@pytest.mark.parametrize(
    "answer", [["10.0.0.1"], [PUBLIC, "127.0.0.1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["fe80::1%eth0"], []]
)
def test_a_name_with_an_address_that_is_not_public_is_refused(answer):
    with pytest.raises(FetchFailure, match="address is not public"):
        resolve([answer])


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe"])
def test_an_address_in_the_url_is_checked_too(host):
    with pytest.raises(FetchFailure, match="address is not public"):
        resolve([], host)


def test_a_name_that_changes_to_a_private_address_is_refused(monkeypatch):
    monkeypatch.setattr(resolver, "LIFETIME_SECONDS", -1.0)
    with pytest.raises(FetchFailure, match="address is not public"):
        resolve([[PUBLIC], ["127.0.0.1"]], times=2)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "permanent", "unknown host"),
        (socket.gaierror(socket.EAI_AGAIN, "later"), "passing", "host lookup failed"),
        (OSError("no network"), "passing", "host lookup failed"),
        (UnicodeError("label too long"), "permanent", "malformed address"),
    ],
)
def test_a_failed_lookup_says_whether_it_may_pass(error, status, reason):
    with pytest.raises(FetchFailure) as failure:
        resolve([error])
    assert (failure.value.status, failure.value.reason) == (status, reason)


def test_a_lookup_that_does_not_end_is_given_up(monkeypatch):
    monkeypatch.setattr(resolver, "TIMEOUT_SECONDS", 0.01)

    async def lookup(_host):
        await asyncio.sleep(10)

    with pytest.raises(FetchFailure, match="host lookup failed"):
        asyncio.run(HostResolver(is_public, lookup).resolve("site.test"))


def test_a_thousand_images_of_an_unknown_host_ask_for_its_name_once(fetch):
    names = []

    async def lookup(host):
        names.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    images = fetch([f"http://site.test/{number}.jpg" for number in range(1_000)], lookup=lookup)
    assert {(image.status, image.reason) for image in images.values()} == {("permanent", "unknown host")}
    assert len(names) == 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"contact": "me@example.org"}, "address is not public"),
        ({"allow_private": True}, None),
        ({"allow_private": True, "contact": "me@example.org"}, None),
    ],
)
def test_loopback_is_contacted_only_if_private_addresses_are_allowed(server, tmp_path, settings, reason):
    with Fetcher(FetchConfig(**settings)) as fetcher:
        [image] = fetcher.fetch([server.url("ok", 2, host=12)], tmp_path)
    assert image.reason == reason


def test_without_a_contact_private_addresses_are_the_only_ones(tmp_path):
    with Fetcher(FetchConfig(allow_private=True)) as fetcher:
        [image] = fetcher.fetch([f"http://{PUBLIC}/a.jpg"], tmp_path)
    assert (image.reason, image.num_tries) == ("address is not public", 1)
