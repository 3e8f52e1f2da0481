"""What every answer says to browsers, and who may ask: security headers, host names, the API key."""

import hmac
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra.config.serve import LOOPBACK_HOSTS
from zebra.serve import errors

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
ENCODED_SECURITY_HEADERS = [
    (name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()
]
NO_STORE_HEADERS = [(b"cache-control", b"no-store")]
"""What the API answers is for who asked."""
PUBLIC_PATHS = ("/", "/healthz", "/readyz", "/docs", "/openapi.json")
PUBLIC_PATH_PREFIXES = ("/page/", "/reference/")
"""Answered without a key."""


class SecurityHeadersMiddleware:
    """Adds the headers of security to all answers of an app that do not have their own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def secure(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", ()))
                there = {name for name, _ in headers}
                added = (
                    ENCODED_SECURITY_HEADERS + NO_STORE_HEADERS
                    if "/v1/" in scope["path"]
                    else ENCODED_SECURITY_HEADERS
                )
                headers += [header for header in added if header[0] not in there]
            await send(message)

        await self._app(scope, receive, secure)


class AuthMiddleware:
    """Lets in who has the key and calls the server by one of its names, as long as the server is not going down.

    A service of this machine alone answers to this machine's names alone: a page on the web whose name suddenly leads
    here (DNS rebinding) is turned away.
    """

    def __init__(
        self, app: ASGIApp, *, api_key: str | None, is_local: bool, is_draining: Callable[[], bool]
    ) -> None:
        self._app = app
        self._authorization = None if api_key is None else f"Bearer {api_key}".encode()
        self._is_local = is_local
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        refusal = self._rejection(scope["path"], Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _rejection(self, path: str, headers: Headers) -> ASGIApp | None:
        if self._is_local and _host_name(headers.get("host", "")) not in LOOPBACK_HOSTS:
            names = ", ".join(LOOPBACK_HOSTS)
            return errors.error_response(403, f"this server answers to {names} alone; --host lets others in")
        if not self._is_authorized(path, headers):
            return errors.error_response(
                401, "send the key as Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
            )
        if self._is_draining() and path not in PUBLIC_PATHS:
            return errors.error_response(503, "the server is going down", {"Retry-After": "5"})
        return None

    def _is_authorized(self, path: str, headers: Headers) -> bool:
        if self._authorization is None or path in PUBLIC_PATHS or path.startswith(PUBLIC_PATH_PREFIXES):
            return True
        return hmac.compare_digest(headers.get("authorization", "").encode(), self._authorization)


def _host_name(host_header: str) -> str:
    """Return a Host header without its port."""
    name = (
        host_header.rpartition(":")[0]
        if ":" in host_header and not host_header.endswith("]")
        else host_header
    )
    return name.strip("[]").lower()
