"""Middleware that rejects bodies other than JSON in UTF-8 or a form."""

import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from zebra.serve.errors import error_response

JSON_PATTERN = re.compile(r"application/([\w.-]+\+)?json\s*(;\s*charset=\"?utf-?8\"?\s*)?;?", re.ASCII | re.IGNORECASE)
FORM_TYPE = "multipart/form-data"


class ContentTypeMiddleware:
    """Answer POST requests with 415 before their body is read, unless the path takes the body as it is sent."""

    def __init__(self, app: ASGIApp, *, form_paths: Collection[str], form_only_paths: Collection[str]) -> None:
        """Wrap an app.

        Args:
            form_paths: Paths that take multipart forms as well as JSON.
            form_only_paths: Paths that take multipart forms only.
        """
        self._app = app
        self._form_paths = frozenset(form_paths)
        self._form_only_paths = frozenset(form_only_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        problem = self._find_problem(scope["path"], Headers(scope=scope)) if is_post else ""
        await (error_response(415, problem) if problem else self._app)(scope, receive, send)

    def _find_problem(self, path: str, headers: Headers) -> str:
        """Return what is wrong with the headers of a body, and what to send; empty if they are right."""
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            return "compressed bodies are not supported: send the body without Content-Encoding"
        takes_form, takes_json = path in self._form_paths | self._form_only_paths, path not in self._form_only_paths
        if (takes_form and is_form(headers)) or (
            takes_json and JSON_PATTERN.fullmatch(headers.get("content-type", "").strip())
        ):
            return ""
        types = {
            (True, False): "JSON in UTF-8 with the header Content-Type: application/json",
            (False, True): f"a form with the header Content-Type: {FORM_TYPE}",
            (True, True): f"JSON in UTF-8 with the header Content-Type: application/json, or a {FORM_TYPE} form",
        }
        return f"send {types[takes_json, takes_form]}"


def is_form(headers: Headers) -> bool:
    """Return whether a body is a multipart form."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == FORM_TYPE
