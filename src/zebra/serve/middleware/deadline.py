"""Run an app until it responds, its client disconnects, or its deadline passes."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra.serve.errors import error_response


async def run_with_deadline(
    app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send, seconds: float
) -> None:
    """Run an app on a body that was already read; cancel its work if nobody waits for it any more.

    Args:
        seconds: Time for the app to start its response. After it, the client gets 503 at once, and the app is canceled.
    """
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    has_started = is_late = False

    async def replay() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # the app is canceled and never sees http.disconnect
        raise AssertionError

    async def send_in_time(message: Message) -> None:
        nonlocal has_started
        if not is_late:
            has_started = True
            await send(message)

    async def wait_for_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    app_task = asyncio.ensure_future(app(scope, replay, send_in_time))
    disconnect_task = asyncio.ensure_future(wait_for_disconnect())
    try:
        done, _ = await asyncio.wait([app_task, disconnect_task], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done and has_started:
            done, _ = await asyncio.wait([app_task, disconnect_task], return_when=asyncio.FIRST_COMPLETED)
        if app_task in done:
            app_task.result()
            return
        app_task.cancel()
        if not done:
            is_late = True
            message = f"no answer within {seconds:g} s: send less in one request, or try again later"
            await error_response(503, message, {"Retry-After": "5"})(scope, receive, send)
        await asyncio.wait([app_task])
    finally:
        for task in (app_task, disconnect_task):
            task.cancel()
