"""Addresses lead to listed hosts at public addresses, or nowhere."""

import asyncio
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager

import pytest

from zebra.serve.errors import HTTPError
from zebra.serve.fetch import FETCH_ERROR, fetch_url, is_public

HOSTS = frozenset({"pictures.test:8443", "pictures.test"})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of pictures.test that signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=pictures.test"
    subprocess.run(
        [
            *command.split(),
            "-addext",
            "subjectAltName=DNS:pictures.test",
            "-keyout",
            "key.pem",
            "-out",
            "c.pem",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@asynccontextmanager
async def host(certificate, answer):
    """Serve one answer over TLS; yields the port and the requests it was asked."""
    asked = []

    async def serve(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "c.pem", certificate / "key.pem")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        try:
            yield server.sockets[0].getsockname()[1], asked
        finally:
            await asyncio.sleep(0.05)  # connections that were broken off are closed by then


def get(certificate, answer, name="pictures.test", most=1000, **options):
    """Fetch from a host of our own, as if its address were a public one."""

    async def here(_host, _port):
        return ["127.0.0.1"]

    async def scenario():
        async with host(certificate, answer) as (port, asked):
            context = ssl.create_default_context(cafile=str(certificate / "c.pem"))
            known = {"resolve": here, "is_allowed": lambda _address: True, "ssl_context": context} | options
            url = f"https://{name}:{port}/a.jpg?size=1"
            return await fetch_url(url, frozenset({f"{name}:{port}"}), max_bytes=most, **known), asked

    return asyncio.run(scenario())


def test_a_listed_host_is_asked_by_name_at_the_address_that_was_resolved(certificate):
    data, [asked] = get(certificate, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes")
    assert data == b"bytes"
    assert asked.startswith(b"GET /a.jpg?size=1 HTTP/1.1\r\n")
    assert b"host: pictures.test:" in asked.lower()


def test_chunked_answers_are_put_together(certificate):
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert get(certificate, body)[0] == b"abcde"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: https://pictures.test/b.jpg\r\nContent-Length: 0\r\n\r\n",
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
    ids=["redirect", "missing", "too large", "too large in pieces", "cut short", "not HTTP", "endless head"],
)
def test_other_answers_are_refused_alike(certificate, answer):
    with pytest.raises(HTTPError, match=FETCH_ERROR[:20]) as refused:
        get(certificate, answer)
    assert (refused.value.status_code, str(refused.value)) == (400, FETCH_ERROR)


def test_a_certificate_of_another_name_is_refused(certificate):
    with pytest.raises(HTTPError, match=FETCH_ERROR[:20]):
        get(certificate, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", name="other.test")


def test_a_host_that_takes_its_time_is_given_up(certificate):
    with pytest.raises(HTTPError, match=FETCH_ERROR[:20]):
        get(certificate, b"HTTP/1.1 200 OK\r\n", timeout_seconds=0.0)


@pytest.mark.parametrize(
    "url",
    [
        "http://pictures.test/a.jpg",
        "file:///etc/passwd",
        "ftp://pictures.test/a",
        "https://other.test/a.jpg",
        "https://pictures.test.other.test/a.jpg",
        "https://pictures.test:9/a.jpg",
        "https://user@pictures.test/a.jpg",
        "https://other.test\\@pictures.test/a.jpg",
        "https://pictures.test\\.other.test/a.jpg",
        "https://other.test#@pictures.test/",
        "https://other.test?@pictures.test/",
        "https://pictures.test/a b.jpg",
        "https://pictures.test/a\r\nHost: other.test",
        "https://pictures.test/\x00",
        "https://pictures。test/a.jpg",
        "https://[::1]/",
        "//pictures.test/a.jpg",
        "",
    ],
)
def test_addresses_of_another_form_or_host_are_not_even_resolved(url):
    async def resolve(host, port):
        raise AssertionError(host, port)

    with pytest.raises(HTTPError, match=FETCH_ERROR[:20]):
        asyncio.run(fetch_url(url, HOSTS, max_bytes=1000, resolve=resolve))


def test_a_name_with_one_private_address_among_its_addresses_is_refused():
    async def resolve(_host, _port):
        return ["93.184.215.14", "10.0.0.1"]

    with pytest.raises(HTTPError, match=FETCH_ERROR[:20]):
        asyncio.run(fetch_url("https://pictures.test/a.jpg", HOSTS, max_bytes=1000, resolve=resolve))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
        *("fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::"),
        *(
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "localhost",
        ),
    ],
)
def test_no_private_address_passes_for_a_public_one(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_known(address):
    assert is_public(address)
