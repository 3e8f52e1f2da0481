"""Tests of the body limit: bytes are counted as they arrive, and disconnected clients stop the work."""

import asyncio
import json

import pytest

from zebra.serve.concurrency import ConcurrencyLimit
from zebra.serve.middleware.body_limit import BodyLimitMiddleware

SCOPE = {"type": "http", "path": "/", "headers": []}
DISCONNECT = (0.0, {"type": "http.disconnect"})


def handle(app, messages, scope=SCOPE, **limits):
    """Send messages, each after its delay, through the middleware; return the status and the error type or body."""
    settings = {
        "max_bytes": 100,
        "max_total_bytes": 1000,
        "timeout_seconds": 5.0,
        "response_timeout_seconds": 5.0,
        "concurrency_limit": ConcurrencyLimit(10, 10**9),
    } | limits
    responses = []

    async def scenario():
        remaining = list(messages)

        async def receive():
            if not remaining:
                await asyncio.sleep(60)
            delay, message = remaining.pop(0)
            await asyncio.sleep(delay)
            return message

        async def send(message):
            responses.append(message)

        await BodyLimitMiddleware(app, **settings)(scope, receive, send)

    asyncio.run(scenario())
    if not responses:
        return None
    body = b"".join(message.get("body", b"") for message in responses[1:])
    status = responses[0]["status"]
    return status, json.loads(body)["error"]["type"] if status >= 400 else body


async def echo(_scope, receive, send):
    message = await receive()
    assert message["more_body"] is False
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def chunk(data, delay=0.0, more=True):
    return delay, {"type": "http.request", "body": data, "more_body": more}


async def send_body(middleware, body, statuses, gate=None):
    """Send a body in two messages, the second after the gate opens; append the status to a list."""
    messages = [chunk(body)[1], chunk(b"", more=False)[1]]

    async def receive():
        if len(messages) == 1 and gate is not None:
            await gate.wait()
        return messages.pop(0) if messages else await asyncio.sleep(60)

    async def send(message):
        if "status" in message:
            statuses.append(message["status"])

    await middleware(SCOPE, receive, send)


def test_a_body_in_chunks_arrives_as_one():
    assert handle(echo, [chunk(b"ab"), chunk(b"cd"), chunk(b"", more=False)]) == (200, b"abcd")


def test_a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not():
    assert handle(echo, [chunk(b"x" * 100, more=False)]) == (200, b"x" * 100)
    assert handle(echo, [chunk(b"x" * 60), chunk(b"x" * 41), chunk(b"", more=False)]) == (413, "too_large")


def test_a_content_length_beyond_the_limit_is_rejected_before_a_byte_is_read():
    scope = SCOPE | {"headers": [(b"content-length", b"101")]}
    assert handle(echo, [chunk(b"", more=False)], scope) == (413, "too_large")


def test_a_slow_body_is_rejected():
    messages = [chunk(b"a"), chunk(b"b", 10), DISCONNECT]
    assert handle(echo, messages, timeout_seconds=0.05) == (408, "timeout")


def test_bodies_share_a_limit():
    async def scenario():
        middleware = BodyLimitMiddleware(
            echo,
            max_bytes=100,
            max_total_bytes=150,
            timeout_seconds=5,
            response_timeout_seconds=5,
            concurrency_limit=ConcurrencyLimit(10, 10**9),
        )
        statuses = []
        gate = asyncio.Event()
        first = asyncio.create_task(send_body(middleware, b"x" * 90, statuses, gate))
        await asyncio.sleep(0.01)
        await send_body(middleware, b"x" * 90, statuses)
        gate.set()
        await first
        await send_body(middleware, b"x" * 90, statuses)  # the bytes of finished requests are free again
        return statuses

    assert asyncio.run(scenario()) == [429, 200, 200]


def test_requests_beyond_the_concurrency_limit_are_rejected_before_they_are_parsed():
    async def scenario():
        gate = asyncio.Event()
        statuses = []

        async def slow(scope, receive, send):
            await gate.wait()
            await echo(scope, receive, send)

        middleware = BodyLimitMiddleware(
            slow,
            max_bytes=100,
            max_total_bytes=1000,
            timeout_seconds=5,
            response_timeout_seconds=5,
            concurrency_limit=ConcurrencyLimit(2, 10**9),
        )
        first = [asyncio.create_task(send_body(middleware, b"x", statuses)) for _ in range(2)]
        await asyncio.sleep(0)
        await send_body(middleware, b"x", statuses)
        assert statuses == [429]
        health = asyncio.create_task(send_body(middleware, b"", statuses))  # requests without a body pass
        gate.set()
        await asyncio.gather(*first, health)
        await send_body(middleware, b"x", statuses)
        return statuses

    assert asyncio.run(scenario()) == [429, 200, 200, 200, 200]


@pytest.mark.parametrize("messages", [[DISCONNECT], [chunk(b"half"), DISCONNECT]])
def test_a_client_that_disconnects_before_the_end_gets_no_response(messages):
    async def never(*_):
        raise AssertionError

    assert handle(never, messages) is None


def test_a_disconnect_cancels_the_work():
    canceled = []

    async def slow(_scope, receive, _send):
        await receive()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            canceled.append(True)
            raise

    assert handle(slow, [chunk(b"", more=False), (0.01, DISCONNECT[1])]) is None
    assert canceled == [True]


def test_an_exception_of_the_app_propagates():
    async def broken(*_):
        raise TimeoutError("from the app")

    with pytest.raises(TimeoutError, match="from the app"):
        handle(broken, [chunk(b"", more=False)])
