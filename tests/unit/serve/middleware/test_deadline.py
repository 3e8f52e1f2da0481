"""The deadline of a request: 503 at once, and the end of its work."""

import asyncio
import json

from zebra.serve.middleware.deadline import run_with_deadline


def run(app, seconds=0.02):
    """Run an app whose client stays; return its response messages."""
    messages = []

    async def scenario():
        async def receive():
            await asyncio.sleep(60)

        async def send(message):
            messages.append(message)

        await run_with_deadline(app, {"type": "http", "headers": []}, b"", receive, send, seconds)

    asyncio.run(scenario())
    return messages


async def respond(send, body=b"late"):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def test_work_that_has_begun_ends_at_the_deadline_with_503():
    canceled = []

    async def slow(_scope, receive, send):
        await receive()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            canceled.append(True)
            raise

    start, body = run(slow)
    assert (start["status"], dict(start["headers"])[b"retry-after"], canceled) == (503, b"5", [True])
    assert json.loads(body["body"])["error"]["message"].startswith("no answer within 0.02 s")


def test_an_app_that_cannot_be_canceled_is_not_heard_after_the_deadline():
    async def stubborn(_scope, _receive, send):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await respond(send)

    assert [message.get("status") for message in run(stubborn)] == [503, None]


def test_an_exception_after_the_deadline_is_not_raised():
    async def failing(*_):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise RuntimeError from None

    assert run(failing)[0]["status"] == 503


def test_a_response_that_has_started_has_no_deadline():
    async def streaming(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"all"})

    assert run(streaming)[-1]["body"] == b"all"
