"""Multipart forms: uploaded images and text fields, in place of a JSON body."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from fastapi import Request, Response
from starlette.formparsers import MultiPartException, MultiPartParser

from zebra.serve.errors import HTTPError
from zebra.serve.json_route import JSONRoute
from zebra.serve.limits import MAX_BODY_BYTES, MAX_FORM_FIELD_BYTES, MAX_FORM_FIELDS, MAX_INPUTS
from zebra.serve.middleware.content_type import FORM_TYPE, is_form
from zebra.serve.requests import RequestImage, RequestModel

FORM_PATHS = ("/v1/classify", "/v1/embed", "/v1/search")
"""Paths that take forms as well as JSON; those of `form_route`."""
IMAGE_FIELDS = ("image", "images")
"""Form fields with files, which may be repeated."""
Fields = Mapping[str, Sequence[str | bytes]]
"""Values of each field in the order of the form; files are bytes."""


class _Parser(MultiPartParser):
    """Starlette's parser, which refuses a form that is cut short. The body is in memory, so files stay there."""

    spool_max_size = MAX_BODY_BYTES

    def __init__(self, request: Request) -> None:
        super().__init__(
            request.headers,
            self._require_complete(request.stream()),
            max_files=MAX_INPUTS,
            max_fields=MAX_FORM_FIELDS,
            max_part_size=MAX_FORM_FIELD_BYTES,
        )
        self._is_complete = False

    def on_end(self) -> None:
        """Record that the last boundary was read."""
        self._is_complete = True

    async def _require_complete(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
        if not self._is_complete:
            raise MultiPartException("It ends before its last boundary.")


async def read_form(request: Request) -> Fields:
    """Return the fields of a form.

    Raises:
        HTTPError: The form is malformed, cut short, or has too many parts (400), or no parser is installed (415).
    """
    if find_spec("python_multipart") is None:
        raise HTTPError(415, "this server cannot read forms: send JSON, or install zebra-clip[serve] anew")
    try:
        form = await _Parser(request).parse()
    except (MultiPartException, ValueError) as error:  # older releases of Starlette let the parser's ValueError through
        message = error.message if isinstance(error, MultiPartException) else "Invalid multipart data."
        raise HTTPError(400, f"cannot read the form: {message}") from error
    fields: dict[str, list[str | bytes]] = {}
    for name, value in form.multi_items():
        fields.setdefault(name, []).append(value if isinstance(value, str) else value.file.read())
    await form.close()
    return fields


def form_route(model: type[RequestModel]) -> type[JSONRoute]:
    """Return the class of a route that takes its request, a `model`, as a form too."""

    class FormRoute(JSONRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_json_or_form(request: Request) -> Response:
                if is_form(request.headers):
                    request = _ParsedRequest(request, to_request_values(model, await read_form(request)))
                return await handle(request)

            return handle_json_or_form

    return FormRoute


def form_body(model: type[RequestModel]) -> dict[str, Any]:
    """Return what OpenAPI adds to a route of `form_route`: the form as another type of body."""
    file = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "properties": {"image": {"type": "array", "items": file, "maxItems": MAX_INPUTS}} | _text_fields(model),
        "required": [
            field.alias or name
            for name, field in model.model_fields.items()
            if field.is_required() and name not in IMAGE_FIELDS
        ],
        "additionalProperties": False,
    }
    return {"requestBody": {"content": {FORM_TYPE: {"schema": form}}}}


def to_request_values(model: type[RequestModel], fields: Fields) -> dict[str, Any]:
    """Return the fields of a form as a JSON body has them: files as images, and numbers.

    Raises:
        HTTPError: A field is a file instead of a text, or the reverse, or is given too often (422).
    """
    values: dict[str, Any] = {}
    images = [value for name in IMAGE_FIELDS for value in fields.get(name, ())]
    if not all(isinstance(image, bytes) for image in images):
        raise HTTPError(422, "image: send a file, for instance curl -F image=@photo.jpg")
    if images:
        uploads = [RequestImage.from_file(image) for image in images if isinstance(image, bytes)]
        name = "images" if "images" in model.model_fields else "image"
        values[name] = uploads if name == "images" else _only(name, uploads)
    text_fields = _text_fields(model)
    for name in fields.keys() - IMAGE_FIELDS:
        texts = [value for value in fields[name] if isinstance(value, str)]
        if len(texts) < len(fields[name]):
            raise HTTPError(422, f"{name[:40]}: send a text, not a file")
        type = text_fields.get(name, {}).get("type")
        values[name] = texts if type == "array" else _only(name, texts)
        if type == "integer" and values[name].isdecimal():
            values[name] = int(values[name])
    return values


@cache
def _text_fields(model: type[RequestModel]) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each field that is not an image, without null."""
    return {
        name: next((option for option in field.get("anyOf", ()) if option.get("type") != "null"), field)
        for name, field in model.model_json_schema(by_alias=True)["properties"].items()
        if name not in IMAGE_FIELDS
    }


class _ParsedRequest(Request):
    """A request whose form was parsed; to FastAPI, it is JSON."""

    def __init__(self, request: Request, values: Mapping[str, Any]) -> None:
        headers = [header for header in request.scope["headers"] if header[0] != b"content-type"]
        json_header = (b"content-type", b"application/json")
        super().__init__({**request.scope, "headers": [*headers, json_header]}, request.receive)
        self._values = values

    async def body(self) -> bytes:
        return b"{}"

    async def json(self) -> Any:
        return self._values


def _only(name: str, values: Sequence[Any]) -> Any:
    if len(values) > 1:
        raise HTTPError(422, f"{name[:40]}: given {len(values)} times; send one")
    return values[0]
