"""Middleware that refuses forms that other websites send."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from zebra.serve.errors import error_response
from zebra.serve.middleware.content_type import is_form


class CrossSiteMiddleware:
    """Answer a form of another origin with 403, unless the origin is listed.

    Browsers let every website send a form to every server, this machine's own included, without asking the server
    first as they do for JSON (CSRF). `Sec-Fetch-Site` says who sends it; without that header, `Origin` does, which
    must be of the host that the request names. Programs other than browsers send neither.
    """

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            headers = Headers(scope=scope)
            if is_form(headers) and self._is_cross_site(headers):
                message = "forms of other origins are not accepted: start the server with --cors ORIGIN to list yours"
                await error_response(403, message)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_cross_site(self, headers: Headers) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._origins or "*" in self._origins:
            return False
        if site is not None:
            return site not in ("same-origin", "none")
        return origin is not None and urlsplit(origin).netloc != headers.get("host")
