"""Run an app until it responds, its client disconnects, or its deadline passes."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra.serve.errors import error_response


async def run_with_deadline(
    app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send, seconds: float
) -> None:
    """Run an app on a body that was already read; cancel its work if nobody waits for it any more.

    The app runs in the task of the caller, because a task of its own takes as long as the rest of this function.

    Args:
        seconds: Time for the app to start its response. After it, the client gets 503 at once, and the app is canceled.
    """
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    has_started = is_canceled = False
    late_task: asyncio.Task[None] | None = None
    app_task = asyncio.current_task()
    assert app_task is not None

    async def replay() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # the app is canceled and never sees http.disconnect
        raise AssertionError

    async def send_in_time(message: Message) -> None:
        nonlocal has_started
        if late_task is None:
            has_started = True
            await send(message)

    def cancel_app() -> None:
        nonlocal is_canceled
        if not is_canceled:
            is_canceled = True
            app_task.cancel()

    async def cancel_after_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        cancel_app()

    async def answer_late() -> None:
        message = f"no answer within {seconds:g} s: send less in one request, or try again later"
        cancel_app()
        await error_response(503, message, {"Retry-After": "5"})(scope, receive, send)

    def on_deadline() -> None:
        nonlocal late_task
        if not has_started:
            late_task = asyncio.create_task(answer_late())

    deadline = asyncio.get_running_loop().call_later(seconds, on_deadline)
    disconnect_task = asyncio.create_task(cancel_after_disconnect())
    try:
        await app(scope, replay, send_in_time)
    except (asyncio.CancelledError, Exception):
        if not is_canceled:
            raise
    finally:
        deadline.cancel()
        disconnect_task.cancel()
        if is_canceled:
            app_task.uncancel()
    if late_task is not None:
        await late_task
