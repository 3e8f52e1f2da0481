"""Every URL ends in one state with a reason, whatever the server does."""

from collections import Counter

import pytest

from zebra.config.fetch import FetchConfig
from zebra.curate.fetch.attempts import read_fetched
from zebra.curate.fetch.fetcher import Fetcher
from zebra.errors import ConfigError

OUTCOMES = {
    "ok": ("kept", None),
    "placeholder": ("kept", None),
    "gzip": ("kept", None),
    "moved": ("kept", None),
    "short": ("kept", None),
    "reset": ("kept", None),
    "freed": ("kept", None),
    "missing": ("permanent", "HTTP status 404"),
    "gone": ("permanent", "HTTP status 410"),
    "forbidden": ("permanent", "HTTP status 403"),
    "error": ("passing", "HTTP status 500"),
    "html": ("permanent", "web page instead of an image"),
    "empty": ("permanent", "empty body"),
    "svg": ("permanent", "not an image"),
    "video": ("permanent", "not an image"),
    "loop": ("permanent", "too many redirects"),
    "private": ("permanent", "address is not public"),
    "file": ("permanent", "address is not http or https"),
    "nowhere": ("permanent", "redirect without a target"),
    "huge": ("permanent", "body is too large"),
    "endless": ("permanent", "body is too large"),
    "bomb": ("permanent", "body is too large"),
    "brotli": ("permanent", "unsupported compression"),
    "garbage": ("permanent", "invalid HTTP response"),
    "status": ("permanent", "invalid HTTP response"),
    "long header": ("permanent", "invalid HTTP response"),
    "two lengths": ("permanent", "invalid HTTP response"),
    "noai": ("permanent", "excluded by X-Robots-Tag"),
    "tdm": ("permanent", "rights reserved by TDMRep"),
    "reserved": ("permanent", "rights reserved by TDMRep"),
    "usage": ("permanent", "excluded by Content-Usage"),
}


def test_every_kind_of_response_has_its_outcome(server, fetch):
    images = fetch(server.url(kind) for kind in OUTCOMES)
    assert {url.split("/")[3]: (image.status, image.reason) for url, image in images.items()} == OUTCOMES


def test_images_that_cannot_be_resized_have_the_reason_of_decoding(server, fetch):
    reasons = {"pixels": "too many pixels", "thin": "too thin", "zero": "damaged image", "cut": "damaged image"}
    images = fetch((server.url(kind) for kind in ("ok", *reasons)), shorter_side=64)
    assert {url.split("/")[3]: image.reason for url, image in images.items()} == {"ok": None} | reasons


def test_a_response_that_does_not_end_in_time_is_given_up(server, fetch):
    images = fetch([server.url("slow"), server.url("silent")], timeout_seconds=0.3)
    assert {(image.status, image.reason, image.num_tries) for image in images.values()} == {
        ("passing", "time limit exceeded", 1)
    }


def test_stored_bytes_are_those_of_the_server(server, fetch, tmp_path):
    images = fetch(server.url(kind, 3) for kind in ("ok", "gzip", "moved"))
    assert [read_fetched(tmp_path / "images", images[server.url(kind, 3)]) for kind in ("ok", "gzip")] == [
        server.images[3],
        server.images[3],
    ]
    moved = images[server.url("moved", 3)]
    assert moved.final_url == server.url("ok", 1)
    assert moved.media_type == "image/jpeg"


def test_an_endless_body_is_not_read_to_its_end(server, fetch):
    before = server.num_endless_bytes
    fetch([server.url("endless", 7)], max_bytes=100_000)
    assert 0 < server.num_endless_bytes - before < 20_000_000  # what fits into the buffers of the sockets


def test_passing_failures_are_tried_again_and_others_are_not(server, fetch):
    fetch([server.url("error", 8), server.url("missing", 8), server.url("reset", 8)], max_tries=2)
    assert [server.requests[f"/{kind}/8.jpg"] for kind in ("error", "missing", "reset")] == [2, 1, 2]


def test_a_server_that_asks_to_wait_is_left_alone_for_that_time(server, fetch):
    images = fetch([server.url("busy", 1), server.url("limited", 2, host=12)])
    assert {image.status for image in images.values()} == {"kept"}
    assert {image.num_tries for image in images.values()} == {2}


def test_a_host_that_asks_to_wait_long_is_not_asked_again(server, fetch):
    urls = [server.url("closed", number, host=12) for number in range(20)]
    images = fetch(urls)
    assert {image.reason for image in images.values()} == {"HTTP status 429"}
    assert {image.status for image in images.values()} == {"passing"}
    assert sum(server.requests[f"/closed/{number}.jpg"] for number in range(20)) <= 2


def test_a_host_that_never_responds_is_given_up_after_some_failures(fetch):
    urls = [f"http://127.0.0.99:9/{number}.jpg" for number in range(200)]
    assert Counter((image.status, image.reason) for image in fetch(urls).values()) == {
        ("permanent", "port of another service"): 200
    }
    urls = [f"http://127.0.0.99:1099/{number}.jpg" for number in range(200)]
    images = fetch(urls)
    assert Counter((image.status, image.reason) for image in images.values()) == {("passing", "connection failed"): 200}
    assert sum(image.num_tries for image in images.values()) < 40


def test_one_host_never_has_more_than_two_connections(server, fetch):
    server.max_connections.clear()
    fetch([server.url(kind, number, host) for number in range(40) for kind, host in (("ok", 11), ("moved", 12))])
    assert server.max_connections == {11: 2, 12: 2}


def test_a_folder_continues_without_repeating_a_request(server, fetch):
    urls = [server.url(kind, 20) for kind in ("ok", "missing", "error")]
    first = fetch(urls)
    before = Counter(server.requests)
    assert fetch(urls) == first
    assert server.requests == before
    again = fetch(urls, again=True)
    repeated = server.requests - before
    assert {path: count for path, count in repeated.items() if path.endswith(".jpg")} == {"/error/20.jpg": 3}
    assert again.keys() == first.keys()


def test_a_public_host_needs_a_contact():
    with pytest.raises(ConfigError, match=r"fetch\.contact is missing"):
        Fetcher(FetchConfig())
    with pytest.raises(ConfigError, match="e-mail address"):
        FetchConfig(contact="me")


def test_servers_are_told_who_asks_and_get_no_cookies_back(server, fetch):
    fetch([server.url("ok", 30)], contact="me@example.org")
    headers = server.headers["/ok/30.jpg"]
    assert headers["user-agent"].startswith("zebra-clip/")
    assert headers["user-agent"].endswith("(+me@example.org)")
    assert "cookie" not in headers
