"""Addresses are normalized as browsers do, or refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.curate.fetch.outcome import FetchFailure
from zebra.curate.fetch.urls import parse_url

BASE = parse_url("http://site.org/a/b?x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://site.org", "http://site.org/"),
        ("HTTP://SITE.org.:80/A", "http://site.org/A"),
        ("//cdn.org/a.jpg", "https://cdn.org/a.jpg"),
        ("  http://site.org/a b.jpg\n", "http://site.org/a%20b.jpg"),
        ("http://bücher.example/ü?q=ü#part", "http://xn--bcher-kva.example/%C3%BC?q=%C3%BC"),
        ("http://site.org/a/../b//c/./d/%2e%2E/e", "http://site.org/b//c/e"),
        ("http://site.org/a?b=/../c", "http://site.org/a?b=/../c"),
        ("http://site.org/100%.jpg?x=%2f&y=a+b%20c", "http://site.org/100%.jpg?x=%2f&y=a+b%20c"),
        ("http://site.org:8080/", "http://site.org:8080/"),
        ("http://[2606:4700::0:1111]/", "http://[2606:4700::1111]/"),
        ("http://127。0。0。1/", "http://127.0.0.1/"),
        ("http://under_score.org/", "http://under_score.org/"),
    ],
)
def test_addresses_are_normalized(text, expected):
    assert str(parse_url(text)) == expected
    assert str(parse_url(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("c.jpg", "http://site.org/a/c.jpg"),
        ("/c", "http://site.org/c"),
        ("//cdn.org/c", "http://cdn.org/c"),
        ("?y", "http://site.org/a/b?y"),
        ("../../../c", "http://site.org/c"),
        ("https://site.org/ü", "https://site.org/%C3%BC"),
    ],
)
def test_redirects_may_be_relative(text, expected):
    assert str(parse_url(text, BASE)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file:///etc/passwd", "address is not http or https"),
        ("data:image/png;base64," + "A" * 100_000, "address is not http or https"),
        ("ftp://site.org/a.jpg", "address is not http or https"),
        ("javascript:alert(1)", "address is not http or https"),
        ("localhost:8080/a.jpg", "address is not http or https"),
        ("http://site.org/" + "a" * 100_000, "address is too long"),
        ("/images/a.jpg", "address is not absolute"),
        ("site.org/a.jpg", "address is not absolute"),
        ("", "address is not absolute"),
        ("http://user:password@site.org/", "address with a user name or password"),
        ("http://evil.org\\@site.org/", "address with a user name or password"),
        ("http://site.org:25/", "port of another service"),
        ("http://site.org:0/", "port of another service"),
        ("http://site.org:99999/", "malformed address"),
        ("http://site.org:port/", "malformed address"),
        ("http://", "malformed address"),
        ("http:/a/b", "malformed address"),
        ("http://a..b/", "malformed address"),
        ("http://a b/", "malformed address"),
        ("http://[::1", "malformed address"),
        ("http://[fe80::1%25eth0]/", "malformed address"),
        ("http://site.org/a\x00b", "malformed address"),
        ("http://site.org/a\r\nHost: other", "malformed address"),
        ("http://site.org/\ud800", "malformed address"),
        ("http://" + "a" * 64 + ".org/", "malformed address"),
        ("http://" + "ü" * 100 + ".org/", "malformed address"),
        *(
            (f"http://{host}/", "malformed address")
            for host in ("2130706433", "0x7f.1", "127.1", "0177.0.0.1", "1.2.3.4.5")
        ),
    ],
)
def test_other_addresses_are_refused(text, reason):
    with pytest.raises(FetchFailure) as failure:
        parse_url(text)
    assert (failure.value.status, failure.value.reason) == ("permanent", reason)


@given(st.text() | st.text(alphabet="htps:/.@[]?#%\\ \t1ü。").map("http://{}".format), st.booleans())
def test_any_text_is_refused_or_becomes_plain_ascii(text, is_redirect):
    try:
        url = str(parse_url(text, BASE if is_redirect else None))
    except FetchFailure as failure:
        assert failure.status == "permanent"
    else:
        assert url.isascii()
        assert url.isprintable()
        assert " " not in url
        assert str(parse_url(url)) == url
