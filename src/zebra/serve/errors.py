"""HTTP errors: exceptions with a status, and the one JSON shape of every error."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from zebra.errors import BadSample, ConfigError, DataError, ZebraError
from zebra.serve.limits import MAX_ERROR_LENGTH

ERROR_TYPES = {
    400: "bad_request",
    401: "unauthorized",
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
BUSY_MESSAGE = "the server is busy; try again later"
MAX_REPORTED_FIELDS = 5
REQUEST_FORMATS = ("zebra", "hugging-face")
"""Formats of one route's requests; pydantic puts their name before the field."""


class HTTPError(ZebraError):
    """An error response: a status code, a message and, if a retry makes sense, the time to wait."""

    def __init__(self, status_code: int, message: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.retry_after_seconds = retry_after_seconds
        """Value of the header Retry-After."""


def error_body(status_code: int, message: str) -> dict[str, dict[str, str]]:
    """Return the JSON of an error; a message that quotes much of the request is cut."""
    text = message if len(message) <= MAX_ERROR_LENGTH else f"{message[:MAX_ERROR_LENGTH]}…"
    return {"error": {"type": ERROR_TYPES.get(status_code, "error"), "message": text}}


def error_response(status_code: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error as a response."""
    return JSONResponse(error_body(status_code, message), status_code, dict(headers or {}))


def add_exception_handlers(app: FastAPI) -> None:
    """Make an app answer every error in the one JSON shape."""

    @app.exception_handler(HTTPError)
    async def handle_http_error(_request: Request, error: HTTPError) -> JSONResponse:
        headers = {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
        return error_response(error.status_code, str(error), headers)

    @app.exception_handler(RequestValidationError)
    async def handle_validation_error(_request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(422, validation_message(error))

    @app.exception_handler(HTTPException)
    async def handle_starlette_error(_request: Request, error: HTTPException) -> JSONResponse:
        return error_response(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(ZebraError)
    async def handle_zebra_error(_request: Request, error: ZebraError) -> JSONResponse:
        if isinstance(error, BadSample | ConfigError | DataError):  # the request itself is at fault
            return error_response(400, str(error))
        raise error


def validation_message(error: RequestValidationError) -> str:
    """Return the first invalid fields and the reasons, without the values that were sent."""
    messages, details = [], error.errors()
    for detail in details[:MAX_REPORTED_FIELDS]:
        parts = [str(part) for part in detail["loc"] if part != "body"]
        field = ".".join(parts[1:] if parts[:1] and parts[0] in REQUEST_FORMATS else parts)
        reason = str(detail["msg"]).removeprefix("Value error, ")
        messages.append(f"{field}: {reason}" if field else reason)
    num_more = len(details) - len(messages)
    return "; ".join(messages) + (f"; and {num_more} more" if num_more else "")
