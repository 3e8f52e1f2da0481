"""What every answer says to browsers, and who may ask: security headers, host names, the API key."""

import hmac
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra.config.serve import LOCAL
from zebra.serve import errors

POLICY = "; ".join(
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
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
ADDED = [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]
NOT_STORED = [(b"cache-control", b"no-store")]
"""What the API answers is for who asked."""
FREE = ("/", "/healthz", "/readyz", "/docs", "/openapi.json")
FREE_FOLDERS = ("/page/", "/reference/")
"""Answered without a key."""


class SecureHeaders:
    """Adds the headers of security to all answers of an app that do not have their own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def secure(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", ()))
                there = {name for name, _ in headers}
                added = ADDED + NOT_STORED if "/v1/" in scope["path"] else ADDED
                headers += [header for header in added if header[0] not in there]
            await send(message)

        await self._app(scope, receive, secure)


class Doorkeeper:
    """Lets in who has the key and calls the server by one of its names, as long as the server is not going down.

    A service of this machine alone answers to this machine's names alone: a page on the web whose name suddenly leads
    here (DNS rebinding) is turned away.
    """

    def __init__(
        self, app: ASGIApp, *, api_key: str | None, is_local: bool, is_closing: Callable[[], bool]
    ) -> None:
        self._app = app
        self._authorisation = None if api_key is None else f"Bearer {api_key}".encode()
        self._is_local = is_local
        self._is_closing = is_closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        refusal = self._refusal(scope["path"], Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> ASGIApp | None:
        if self._is_local and _name(headers.get("host", "")) not in LOCAL:
            names = ", ".join(LOCAL)
            return errors.response(403, f"this server answers to {names} alone; --host lets others in")
        if not self._may_pass(path, headers):
            return errors.response(
                401, "send the key as Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
            )
        if self._is_closing() and path not in FREE:
            return errors.response(503, "the server is going down", {"Retry-After": "5"})
        return None

    def _may_pass(self, path: str, headers: Headers) -> bool:
        if self._authorisation is None or path in FREE or path.startswith(FREE_FOLDERS):
            return True
        return hmac.compare_digest(headers.get("authorization", "").encode(), self._authorisation)


def _name(host: str) -> str:
    """Return a Host header without its port."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    return name.strip("[]").lower()
