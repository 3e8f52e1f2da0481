"""Bodies are counted as they arrive; who sends too much, too slowly or leaves is not worked for."""

import asyncio
import json

import pytest

from zebra.serve.concurrency import ConcurrencyLimit
from zebra.serve.middleware.body_limit import BodyLimitMiddleware

HEAD = {"type": "http", "headers": []}


def answered(app, messages, head=HEAD, **limits):
    """Ask an app behind Bodies with some messages, each after its seconds; return status and error type or body."""
    known = {
        "max_bytes": 100,
        "max_total_bytes": 1000,
        "timeout_seconds": 5.0,
        "concurrency_limit": ConcurrencyLimit(10),
    } | limits
    sent = []

    async def scenario():
        left = list(messages)

        async def receive():
            if not left:
                await asyncio.sleep(60)
            pause, message = left.pop(0)
            await asyncio.sleep(pause)
            return message

        async def send(message):
            sent.append(message)

        await BodyLimitMiddleware(app, **known)(head, receive, send)

    asyncio.run(scenario())
    if not sent:
        return None
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(body)["error"]["type"] if sent[0]["status"] >= 400 else body


async def echo(_scope, receive, send):
    message = await receive()
    assert message["more_body"] is False
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def piece(data, pause=0.0, more=True):
    return pause, {"type": "http.request", "body": data, "more_body": more}


GONE = (0.0, {"type": "http.disconnect"})


def test_a_body_in_pieces_arrives_as_one():
    assert answered(echo, [piece(b"ab"), piece(b"cd"), piece(b"", more=False)]) == (200, b"abcd")


def test_a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not():
    assert answered(echo, [piece(b"x" * 100, more=False)]) == (200, b"x" * 100)
    assert answered(echo, [piece(b"x" * 60), piece(b"x" * 41), piece(b"", more=False)]) == (413, "too_large")


def test_a_head_that_promises_too_much_is_refused_before_a_byte_is_read():
    head = HEAD | {"headers": [(b"content-length", b"101")]}
    assert answered(echo, [piece(b"", more=False)], head) == (413, "too_large")


def test_a_body_that_is_too_slow_is_refused():
    assert answered(echo, [piece(b"a"), piece(b"b", 10), GONE], timeout_seconds=0.05) == (408, "timeout")


def test_bodies_share_a_limit_too():
    async def scenario():
        bodies = BodyLimitMiddleware(
            echo,
            max_bytes=100,
            max_total_bytes=150,
            timeout_seconds=5,
            concurrency_limit=ConcurrencyLimit(10),
        )
        statuses = []
        gate = asyncio.Event()

        async def ask(wait):
            messages = [piece(b"x" * 90)[1], piece(b"", more=False)[1]]

            async def receive():
                if len(messages) == 1 and wait:
                    await gate.wait()
                return messages.pop(0) if messages else await asyncio.sleep(60)

            async def send(message):
                if "status" in message:
                    statuses.append(message["status"])

            await bodies(HEAD, receive, send)

        first = asyncio.create_task(ask(wait=True))
        await asyncio.sleep(0.01)
        await ask(wait=False)
        gate.set()
        await first
        await ask(wait=False)  # what was held is given back
        return statuses

    assert asyncio.run(scenario()) == [429, 200, 200]


def test_more_than_are_worked_on_at_once_are_refused_before_they_are_looked_at():
    async def scenario():
        gate = asyncio.Event()
        statuses = []

        async def slow(scope, receive, send):
            await gate.wait()
            await echo(scope, receive, send)

        bodies = BodyLimitMiddleware(
            slow,
            max_bytes=100,
            max_total_bytes=1000,
            timeout_seconds=5,
            concurrency_limit=ConcurrencyLimit(2),
        )

        async def ask(body):
            messages = [piece(body, more=False)[1]]

            async def receive():
                return messages.pop() if messages else await asyncio.sleep(60)

            async def send(message):
                if "status" in message:
                    statuses.append(message["status"])

            await bodies(HEAD, receive, send)

        first = [asyncio.create_task(ask(b"x")) for _ in range(2)]
        await asyncio.sleep(0)
        await ask(b"x")
        assert statuses == [429]
        health = asyncio.create_task(ask(b""))  # what has no body is always let in
        gate.set()
        await asyncio.gather(*first, health)
        await ask(b"x")
        return statuses

    assert asyncio.run(scenario()) == [429, 200, 200, 200, 200]


@pytest.mark.parametrize("messages", [[GONE], [piece(b"half"), GONE]])
def test_who_leaves_before_the_end_is_not_answered(messages):
    async def never(*_):
        raise AssertionError

    assert answered(never, messages) is None


def test_who_leaves_during_the_work_stops_the_work():
    stopped = []

    async def slow(_scope, receive, _send):
        await receive()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    assert answered(slow, [piece(b"", more=False), (0.01, GONE[1])]) is None
    assert stopped == [True]


def test_an_error_of_the_app_comes_through():
    async def broken(*_):
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        answered(broken, [piece(b"", more=False)])
