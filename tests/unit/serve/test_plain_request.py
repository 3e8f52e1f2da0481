"""Plain requests: read as h11 reads them, and answered with the same response."""

import asyncio
from types import SimpleNamespace

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zebra.serve.plain_request import MAX_HEADER_BYTES, PlainCycle, parse_plain_request

PLAIN = b"POST /v1/embed?a=%20b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nX-A:\tone  two \r\n\r\n{}"
NAMES = st.sampled_from(
    ["Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "X-A", "X@B"]
)
VALUES = st.sampled_from(
    [
        "localhost",
        "2",
        "02",
        "+2",
        "2, 2",
        "chunked",
        "keep-alive",
        "close",
        "100-continue",
        "",
        "a b",
        "a\tb",
        "é",
        "\0",
    ]
)
HEADERS = st.lists(st.tuples(NAMES, st.sampled_from([":", ": ", " : ", ":\t"]), VALUES), max_size=5)


def parse_with_h11(data):
    """Return method, target, headers and body of the one request in the bytes; None if there is another outcome."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    try:
        events = [connection.next_event()]
        while type(events[-1]) in (h11.Request, h11.Data):
            events.append(connection.next_event())
    except h11.RemoteProtocolError:
        return None
    if not isinstance(events[-1], h11.EndOfMessage) or connection.trailing_data[0]:
        return None
    request, *parts = events
    return request.method, request.target, list(request.headers), b"".join(bytes(part.data) for part in parts[:-1])


def test_a_plain_request_is_parsed():
    request = parse_plain_request(PLAIN)
    assert (request.target, request.path(), request.body) == (b"/v1/embed?a=%20b", "/v1/embed", b"{}")
    assert request.headers == [(b"host", b"localhost"), (b"content-length", b"2"), (b"x-a", b"one  two")]


@given(
    HEADERS,
    st.sampled_from(["POST / HTTP/1.1", "POST * HTTP/1.1", "GET / HTTP/1.1", "POST / HTTP/1.0"]),
    st.binary(max_size=4),
)
@example([("Host", ":", "localhost"), ("Content-Length", ":", "2")], "POST / HTTP/1.1", b"{}")
@example(
    [("Host", ":", "localhost"), ("Content-Length", ":", "2"), ("Connection", ":", "keep-alive")],
    "POST / HTTP/1.1",
    b"{}",
)
def test_h11_reads_every_plain_request_alike(headers, first, body):
    lines = [first, *("".join(header) for header in headers)]
    data = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
    request = parse_plain_request(data)
    if request is not None:
        assert parse_with_h11(data) == (b"POST", request.target, request.headers, request.body)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST", b"PUT"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"Host: localhost\r\n", b""),
        (b"Host: localhost", b"Host: localhost\r\nHost: b"),
        (b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 2"),
        (b"Content-Length: 2", b"Content-Length: 2\r\nTransfer-Encoding: chunked"),
        (b"Content-Length: 2", b"Content-Length : 2"),
        (b"Content-Length: 2", b"Content-Length: 3"),
        (b"Content-Length: 2", b"Content-Length: 1"),
        (b"Content-Length: 2", b"Content-Length: -2"),
        (b"Content-Length: 2", b"Content-Length: 02"),
        (b"X-A:\tone  two ", b"Connection: close"),
        (b"X-A:\tone  two ", b"Expect: 100-continue"),
        (b"X-A:\tone  two ", b"X-A: one\r\n two"),
        (b"X-A:\tone  two ", b"X-A: one\ntwo"),
        (b"X-A:\tone  two ", b"X-A: " + b"a" * MAX_HEADER_BYTES),
        (b"{}", b"{}POST / HTTP/1.1"),
    ],
)
def test_any_other_request_is_left_to_h11(old, new):
    assert old in PLAIN
    assert parse_plain_request(PLAIN.replace(old, new)) is None


def respond(messages, headers=()):
    """Return what a cycle writes for an app's messages, and whether it closes the connection."""
    sent, closed = [], []
    transport = SimpleNamespace(write=sent.append, close=lambda: closed.append(True), is_closing=lambda: bool(closed))
    cycle = PlainCycle(
        scope={"headers": headers},
        conn=SimpleNamespace(they_are_waiting_for_100_continue=False),
        transport=transport,
        flow=SimpleNamespace(write_paused=False),
        logger=SimpleNamespace(error=lambda *_, **__: None),
        access_logger=None,
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        on_response=lambda: None,
    )

    async def app(_scope, _receive, send):
        for message in messages:
            await send(message)

    asyncio.run(cycle.run_asgi(app))
    return sent, bool(closed)


def start(*headers, status=200):
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data, more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def test_a_short_response_is_one_write():
    sent, is_closed = respond([start((b"content-length", b"2")), body(b"{}")])
    assert sent == [b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\n\r\n{}"]
    assert not is_closed


def test_a_response_without_a_length_is_chunked():
    sent, is_closed = respond([start(), body(b"ab", more=True), body(b"", more=True), body(b"c")])
    head, _, rest = b"".join(sent).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert rest == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert not is_closed


def test_a_response_of_another_length_than_announced_ends_the_connection():
    for data in (b"{", b"{}}"):
        assert respond([start((b"content-length", b"2")), body(data)])[1]


def test_the_connection_ends_after_a_response_that_says_so():
    assert respond([start((b"connection", b"close"), (b"content-length", b"0")), body(b"")])[1]


def test_a_line_break_in_a_header_forges_no_other_header():
    sent, is_closed = respond([start((b"x-a", b"1\r\nset-cookie: a=b")), body(b"")])
    assert b"set-cookie" not in b"".join(sent)
    assert is_closed
