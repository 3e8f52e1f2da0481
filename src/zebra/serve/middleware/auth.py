"""Middleware that checks the API key and the Host header."""

import hmac
import re
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from zebra.config.serve import LOOPBACK_HOSTS
from zebra.serve.errors import error_response

PUBLIC_PATHS = ("/", "/healthz", "/readyz", "/docs", "/openapi.json")
"""Paths that need no key."""
HOST_PATTERN = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:@/\[\]\s]+))(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
PUBLIC_PATH_PREFIXES = ("/page/", "/reference/")


class AuthMiddleware:
    """Reject requests without a valid API key or Host header, and all requests during shutdown.

    A server that listens on loopback only accepts the names of this machine as Host. This stops DNS rebinding, where a
    web page points its own host name at 127.0.0.1.
    """

    def __init__(self, app: ASGIApp, *, api_key: str | None, is_local: bool, is_draining: Callable[[], bool]) -> None:
        self._app = app
        self._authorization = None if api_key is None else f"Bearer {api_key}".encode()
        self._is_local = is_local
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        rejection = self._rejection(scope["path"], Headers(scope=scope)) if scope["type"] == "http" else None
        await (rejection or self._app)(scope, receive, send)

    def _rejection(self, path: str, headers: Headers) -> ASGIApp | None:
        if self._is_local and _host_name(headers.get("host", "")) not in LOOPBACK_HOSTS:
            names = ", ".join(LOOPBACK_HOSTS)
            return error_response(
                403,
                f"Host header not allowed: this server accepts only {names}. Start it with --host to accept others.",
            )
        if not self._is_authorized(path, headers):
            return error_response(401, "send the key as Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
        if self._is_draining() and path not in PUBLIC_PATHS:
            return error_response(503, "the server is shutting down", {"Retry-After": "5"})
        return None

    def _is_authorized(self, path: str, headers: Headers) -> bool:
        if self._authorization is None or path in PUBLIC_PATHS or path.startswith(PUBLIC_PATH_PREFIXES):
            return True
        return hmac.compare_digest(headers.get("authorization", "").encode(), self._authorization)


def _host_name(host_header: str) -> str:
    """Return a Host header without its port; empty if it is not a name or address with an optional port."""
    match = HOST_PATTERN.fullmatch(host_header)
    return (match[1] or match[2]).lower() if match else ""
