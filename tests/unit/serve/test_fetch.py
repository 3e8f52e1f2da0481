"""Tests of fetching URLs: only listed hosts at public addresses are contacted."""

import asyncio
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager

import pytest

from zebra.serve.errors import HTTPError
from zebra.serve.fetch import FETCH_ERROR, fetch_url

HOSTS = frozenset({"images.test:8443", "images.test"})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a directory with a self-signed certificate of images.test."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=images.test"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=DNS:images.test", "-keyout", "key.pem", "-out", "c.pem"],
        cwd=path,
        check=True,
        capture_output=True,
    )
    return path


@asynccontextmanager
async def serving(certificate, response):
    """Send one response over TLS; yield the port and the list of requests."""
    requests = []

    async def serve(reader, writer):
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(response)
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "c.pem", certificate / "key.pem")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        try:
            yield server.sockets[0].getsockname()[1], requests
        finally:
            await asyncio.sleep(0.05)  # until aborted connections are closed


def get(certificate, response, name="images.test", max_bytes=1000, **options):
    """Fetch from a local host as if its address were public."""

    async def resolve(_host, _port):
        return ["127.0.0.1"]

    async def scenario():
        async with serving(certificate, response) as (port, requests):
            context = ssl.create_default_context(cafile=str(certificate / "c.pem"))
            settings = {"resolve": resolve, "is_allowed": lambda _address: True, "ssl_context": context} | options
            url = f"https://{name}:{port}/a.jpg?size=1"
            return await fetch_url(url, frozenset({f"{name}:{port}"}), max_bytes=max_bytes, **settings), requests

    return asyncio.run(scenario())


def test_a_listed_host_is_contacted_by_name_at_the_resolved_address(certificate):
    data, [request] = get(certificate, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes")
    assert data == b"bytes"
    assert request.startswith(b"GET /a.jpg?size=1 HTTP/1.1\r\n")
    assert b"host: images.test:" in request.lower()


def test_chunked_responses_are_joined(certificate):
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert get(certificate, body)[0] == b"abcde"


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 302 Found\r\nLocation: https://images.test/b.jpg\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"100\r\n"
        + b"x" * 256
        + b"\r\n"
        + b"800\r\n"
        + b"x" * 2048,
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"what is this",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    ],
    ids=["redirect", "missing", "too large", "too large in chunks", "truncated", "not HTTP", "endless head"],
)
def test_other_responses_get_the_same_error(certificate, response):
    with pytest.raises(HTTPError, match=FETCH_ERROR[:20]) as error:
        get(certificate, response)
    assert (error.value.status_code, str(error.value)) == (400, FETCH_ERROR)


def test_a_certificate_of_another_name_is_rejected(certificate):
    with pytest.raises(HTTPError, match=FETCH_ERROR[:20]):
        get(certificate, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", name="other.test")


def test_a_slow_host_times_out(certificate):
    with pytest.raises(HTTPError, match=FETCH_ERROR[:20]):
        get(certificate, b"HTTP/1.1 200 OK\r\n", timeout_seconds=0.0)


@pytest.mark.parametrize(
    "url",
    [
        "http://images.test/a.jpg",
        "file:///etc/passwd",
        "ftp://images.test/a",
        "https://other.test/a.jpg",
        "https://images.test.other.test/a.jpg",
        "https://images.test:9/a.jpg",
        "https://user@images.test/a.jpg",
        "https://other.test\\@images.test/a.jpg",
        "https://images.test\\.other.test/a.jpg",
        "https://other.test#@images.test/",
        "https://other.test?@images.test/",
        "https://images.test/a b.jpg",
        "https://images.test/a\r\nHost: other.test",
        "https://images.test/\x00",
        "https://images。test/a.jpg",
        "https://[::1]/",
        "//images.test/a.jpg",
        "",
    ],
)
def test_urls_of_another_form_or_host_are_not_resolved(url):
    async def resolve(host, port):
        raise AssertionError(host, port)

    with pytest.raises(HTTPError, match=FETCH_ERROR[:20]):
        asyncio.run(fetch_url(url, HOSTS, max_bytes=1000, resolve=resolve))


def test_a_host_with_one_private_address_is_rejected():
    async def resolve(_host, _port):
        return ["93.184.215.14", "10.0.0.1"]

    with pytest.raises(HTTPError, match=FETCH_ERROR[:20]):
        asyncio.run(fetch_url("https://images.test/a.jpg", HOSTS, max_bytes=1000, resolve=resolve))
