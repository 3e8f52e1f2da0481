"""Middleware for a server below a path of a proxy, such as /zebra."""

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class RootPathMiddleware:
    """Remove the root path from the path of each request; a path without it is served as it is.

    So the proxy may forward the prefix or strip it. The page loads everything relative to its own address, hence the
    redirect to the address with a slash.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        path = scope.get("path", "")
        if scope["type"] == "http" and path == self._root_path:
            await RedirectResponse(f"{self._root_path}/", 308)(scope, receive, send)
            return
        if scope["type"] == "http" and path.startswith(f"{self._root_path}/"):
            raw_path = scope.get("raw_path") or path.encode()
            scope = {
                **scope,
                "path": path.removeprefix(self._root_path),
                "raw_path": raw_path.removeprefix(self._root_path.encode()),
            }
        await self._app(scope, receive, send)
