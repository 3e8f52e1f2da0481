"""Routes that answer JSON requests without FastAPI's work per request."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON_HEADERS = ((b"content-type", b"application/json"), (b"content-type", b"application/json; charset=utf-8"))


class JSONRoute(APIRoute):
    """A route of an async function with one parameter, the body, and a response that its annotation describes.

    FastAPI spends half of a short request on dependencies, exit stacks and the validation of the response. This route
    parses a valid JSON body, calls the function and sends the result, with the same bytes. Any other request takes
    FastAPI's way, so that errors and forms are those of FastAPI. The OpenAPI document is FastAPI's too.
    """

    def __init__(self, path: str, endpoint: Callable[[Any], Awaitable[Any]], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = answer_json(endpoint, self.app)


def answer_json(endpoint: Callable[[Any], Awaitable[Any]], fallback: ASGIApp) -> ASGIApp:
    """Return an app that calls a function with the parsed JSON body; other requests go to the fallback."""
    hints = get_type_hints(endpoint, include_extras=True)
    to_json = TypeAdapter(hints.pop("return")).dump_json
    [body_type] = hints.values()
    validate = TypeAdapter(body_type).validate_python

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        first = await receive()
        try:
            request = validate(_read_json(scope, first))
        except (ValueError, RecursionError):  # FastAPI reads a form or the rest of the body, or says what is wrong
            await fallback(scope, _replay(first, receive), send)
            return
        body = to_json(await endpoint(request), by_alias=True)
        headers = [(b"content-length", str(len(body)).encode()), JSON_HEADERS[0]]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _read_json(scope: Scope, message: Message) -> Any:
    """Return the JSON of a body; ValueError if the message does not hold all of it, or it is of another type."""
    if message.get("more_body") or not any(header in JSON_HEADERS for header in scope["headers"]):
        raise ValueError
    return json.loads(message.get("body", b""))


def _replay(first: Message, receive: Receive) -> Receive:
    """Return a function that receives a message again, and then the others."""
    messages = [first]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
