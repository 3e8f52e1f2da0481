"""Middleware that rejects request bodies other than JSON in UTF-8."""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from zebra.serve.errors import error_response

JSON_PATTERN = re.compile(r"application/([\w.-]+\+)?json\s*(;\s*charset=\"?utf-?8\"?\s*)?;?", re.ASCII | re.IGNORECASE)


class ContentTypeMiddleware:
    """Answer POST requests with 415 before their body is read, unless the body is JSON as it is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        problem = find_problem(Headers(scope=scope)) if is_post else ""
        await (error_response(415, problem) if problem else self._app)(scope, receive, send)


def find_problem(headers: Headers) -> str:
    """Return what is wrong with the headers of a body, and what to send; empty if they are right."""
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        return "compressed bodies are not supported: send the JSON without Content-Encoding"
    if not JSON_PATTERN.fullmatch(headers.get("content-type", "").strip()):
        return "send JSON in UTF-8 with the header Content-Type: application/json"
    return ""
