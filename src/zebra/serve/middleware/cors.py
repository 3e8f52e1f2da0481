"""Middleware that lets pages of listed origins use the server (CORS)."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from zebra.serve.errors import error_response

METHODS = ("GET", "HEAD", "POST")
REQUEST_HEADERS = ("Authorization", "Content-Type")
RESPONSE_HEADERS = ("Retry-After", "X-Image")
"""Headers that scripts may read, besides those that browsers always show."""


class OriginMiddleware(CORSMiddleware):
    """Starlette's middleware, whose refused preflight requests get an error in the usual shape.

    Cookies are never allowed: the key is a header, so that a page must know it.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=RESPONSE_HEADERS,
        )
        self.allow_private_network = True  # no argument, which older releases of Starlette lack

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to an OPTIONS request: what the origin may send, or 400."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        refused = bytes(response.body).decode().removeprefix("Disallowed CORS ")
        headers = {
            name: value for name, value in response.headers.items() if name.startswith(("access-control-", "vary"))
        }
        return error_response(400, f"not allowed for other origins: {refused}. List origins with --cors.", headers)
