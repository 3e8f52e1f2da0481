"""Why a request is not answered: exceptions with their status, and the one shape that all errors have."""

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra.errors import BadSample, ConfigError, DataError, ZebraError

ERROR_TYPES = {
    400: "bad_request",
    401: "unauthorised",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    410: "gone",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "overloaded",
    500: "internal",
    503: "not_ready",
}
log = logging.getLogger(__name__)


class HTTPError(ZebraError):
    """A request that is not answered as asked, with the status that says so."""

    def __init__(self, status_code: int, message: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.retry_after_seconds = retry_after_seconds
        """When it is worth trying again."""


def error_body(status_code: int, message: str) -> dict[str, dict[str, str]]:
    """Return the JSON of an error."""
    return {"error": {"type": ERROR_TYPES.get(status_code, "error"), "message": message}}


def error_response(status_code: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error as a response."""
    return JSONResponse(error_body(status_code, message), status_code, dict(headers or {}))


def add_exception_handlers(app: FastAPI) -> None:
    """Give every error of an app the one shape."""

    @app.exception_handler(HTTPError)
    async def refused(_request: Request, refusal: HTTPError) -> JSONResponse:
        retry = (
            {} if refusal.retry_after_seconds is None else {"Retry-After": str(refusal.retry_after_seconds)}
        )
        return error_response(refusal.status_code, str(refusal), retry)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(422, validation_message(error))

    @app.exception_handler(HTTPException)
    async def unroutable(_request: Request, error: HTTPException) -> JSONResponse:
        return error_response(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(ZebraError)
    async def mistaken(_request: Request, error: ZebraError) -> JSONResponse:
        if isinstance(error, BadSample | ConfigError | DataError):  # what was asked for cannot be done
            return error_response(400, str(error))
        raise error


class ErrorMiddleware:
    """Answers 500 for whatever fails unforeseen in an app, and logs it; the server goes on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        has_begun = False

        async def note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception:  # one request must not take the others with it
            log.exception("%s %s failed", scope.get("method"), scope.get("path"))
            if scope["type"] != "http" or has_begun:
                raise
            await error_response(500, "something went wrong inside the server; its log says what")(
                scope, receive, send
            )


def validation_message(error: RequestValidationError) -> str:
    """Say which fields are wrong and why, without what was sent."""
    said = []
    for fault in error.errors()[:5]:
        place = ".".join(str(part) for part in fault["loc"] if part != "body")
        reason = str(fault["msg"]).removeprefix("Value error, ")
        said.append(f"{place}: {reason}" if place else reason)
    more = len(error.errors()) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more else "")
