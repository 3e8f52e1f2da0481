"""Connections: one answer for ambiguous requests, and an end for clients that do not read."""

import re
import socket
import threading
import time
import urllib.request

import pytest
from fastapi import FastAPI, Response

from zebra.serve import http_protocol
from zebra.serve.concurrency import ConcurrencyLimit
from zebra.serve.run import create_listening_socket
from zebra.serve.server import Server

SIZE = 8 * 2**20
MAX_UNSENT_BYTES = 12 * 2**20


@pytest.fixture(scope="module")
def limit():
    return ConcurrencyLimit(10, MAX_UNSENT_BYTES)


@pytest.fixture(scope="module")
def port(limit):
    """Return the port of a server with one large response."""
    app = FastAPI()

    @app.get("/large")
    async def large() -> Response:
        return Response(bytes(SIZE))

    @app.post("/echo")
    async def echo() -> str:
        return "echo"

    server = Server(app, lambda: None, limit)
    with create_listening_socket("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        port = listener.getsockname()[1]
        urllib.request.urlopen(f"http://127.0.0.1:{port}/large").read()
        yield port
        server.should_exit = True
        thread.join(30)


def send(port, data):
    """Send bytes and return everything that is received."""
    with socket.create_connection(("127.0.0.1", port), 10) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: raw.recv(2**16), b""))


def num_received_bytes(client):
    """Read until the server has closed the connection."""
    num_bytes = 0
    try:
        while data := client.recv(2**20):
            num_bytes += len(data)
    except ConnectionResetError:
        pass
    return num_bytes


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 48\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding:\tchunked\r\n",
        b"content-length: 0\r\nTRANSFER-ENCODING: CHUNKED\r\n",
    ],
)
def test_a_request_with_two_lengths_gets_one_answer_and_the_hidden_one_none(port, framing):
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n"
    response = send(port, head + b"0\r\n\r\nPOST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 400 ")
    assert response.count(b"HTTP/1.1 ") == 1
    assert b'"type": "bad_request"' in response


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\n0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
)
def test_a_request_with_one_length_is_answered(port, framing):
    response = send(port, b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + framing)
    assert response.startswith(b"HTTP/1.1 200 ")


def test_requests_that_are_sent_at_once_are_answered_in_their_order(port):
    post = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in (
            post,
            post + post,
            post[:20],
            post[20:],
            b"GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        ):
            client.sendall(part)
            time.sleep(0.002)  # parts of their own, most of them during a response
        response = b"".join(iter(lambda: client.recv(2**16), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", response) == [b"200"] * 4 + [b"404"]


def test_clients_that_do_not_read_are_cut_off_and_their_bytes_are_bounded(port, limit, monkeypatch):
    monkeypatch.setattr(http_protocol, "SEND_TIMEOUT_SECONDS", 0.5)
    request = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    clients = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(2)]
    try:
        for client in clients:
            client.sendall(request)
        wait_until(lambda: limit.is_full)
        assert send(port, b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}").startswith(b"HTTP/1.1 429 ")
        wait_until(lambda: limit.num_unsent_bytes == 0)
        assert not limit.is_full
        for client in clients:
            assert num_received_bytes(client) < SIZE
    finally:
        for client in clients:
            client.close()


def test_a_client_that_reads_slowly_gets_everything(port, limit, monkeypatch):
    monkeypatch.setattr(http_protocol, "SEND_TIMEOUT_SECONDS", 0.2)
    num_bytes = 0
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while data := client.recv(2**18):
            num_bytes += len(data)
            time.sleep(0.01)
    assert num_bytes > SIZE
    wait_until(lambda: limit.num_unsent_bytes == 0)
