"""HTTP routes as Immich calls its machine learning: vectors for its search.

The formats are those of immich-ml 2.2.3 and of the server's machine-learning.repository.ts.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from fastapi import FastAPI, Request, Response

from zebra.serve import inference
from zebra.serve.errors import HTTPError
from zebra.serve.forms import read_form
from zebra.serve.image_header import read_size
from zebra.serve.limits import MAX_TEXT_LENGTH
from zebra.serve.middleware.content_type import FORM_TYPE
from zebra.serve.requests import RequestImage
from zebra.serve.responses import ImmichResponse
from zebra.serve.service import Service

T = TypeVar("T", str, bytes)
IMMICH_PATH = "/predict"
ENCODERS: tuple[Literal["visual", "textual"], ...] = ("visual", "textual")
EXAMPLE_ENTRIES = '{"clip": {"visual": {"modelName": "ViT-B-32__openai"}}}'
FORM_SCHEMA = {
    "type": "object",
    "properties": {
        "entries": {"type": "string", "description": f"tasks and models in JSON: {EXAMPLE_ENTRIES}"},
        "image": {"type": "string", "format": "binary"},
        "text": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH},
    },
    "required": ["entries"],
}


def add_immich_routes(app: FastAPI, service: Service) -> None:
    """Add /predict and /ping to an app."""

    @app.get("/ping", tags=["immich"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def ping() -> Response:
        """Return 200 if requests are answered; Immich asks regularly."""
        if not service.is_ready:
            raise HTTPError(503, "the model is still loading", retry_after_seconds=2)
        return Response("pong", media_type="text/plain")

    @app.post(
        IMMICH_PATH,
        tags=["immich"],
        response_model_exclude_none=True,
        openapi_extra={"requestBody": {"required": True, "content": {FORM_TYPE: {"schema": FORM_SCHEMA}}}},
    )
    async def predict(request: Request) -> ImmichResponse:
        """Return the vector of an image or a text, as JSON text. The name of the model in `entries` is not compared."""
        fields = await read_form(request)
        kind = parse_entries(_only(fields.get("entries", ()), str, "entries: send one text of JSON"))
        if kind == "visual":
            image = _only(fields.get("image", ()), bytes, "image: the task clip.visual needs one file")
            vector_E = (await inference.embed_images(service, [RequestImage.from_file(image)]))[0]
            width, height = read_size(image) or (None, None)
            return ImmichResponse(clip=json.dumps(vector_E.tolist()), imageWidth=width, imageHeight=height)
        text = _only(fields.get("text", ()), str, "text: the task clip.textual needs one text")
        if not 1 <= len(text) <= MAX_TEXT_LENGTH:
            raise HTTPError(422, f"text: it has {len(text):,} characters; send 1 to {MAX_TEXT_LENGTH:,}")
        texts, _warnings = await inference.embed_texts(service, [text])
        return ImmichResponse(clip=json.dumps(texts[0].vector_E.tolist()))


def parse_entries(text: str) -> Literal["visual", "textual"]:
    """Return which encoder a request asks for.

    Raises:
        HTTPError: The JSON is not what Immich sends (422), or asks for other tasks than search (400).
    """
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HTTPError(422, f"entries: not JSON; Immich sends {EXAMPLE_ENTRIES}") from error
    if not isinstance(entries, dict) or not entries or not all(isinstance(types, dict) for types in entries.values()):
        raise HTTPError(422, f"entries: not tasks with their types; Immich sends {EXAMPLE_ENTRIES}")
    tasks = [(task, kind) for task, types in entries.items() for kind in types]
    for kind in ENCODERS:
        if tasks == [("clip", kind)]:
            _require_model_name(entries["clip"][kind])
            return kind
    names = ", ".join(f"{task}.{kind}"[:40] for task, kind in tasks[:3])
    raise HTTPError(
        400,
        f"this server answers clip.visual or clip.textual, one in a request, not {names or 'none'}. List the URL of "
        "Immich's own machine learning after this one, which then does the other tasks",
    )


def _require_model_name(entry: Any) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("modelName"), str):
        raise HTTPError(422, f"entries: modelName is missing; Immich sends {EXAMPLE_ENTRIES}")


def _only(values: Sequence[str | bytes], type: type[T], message: str) -> T:
    """Return the only value of a form field; HTTPError (422) if there is none, or another type."""
    if len(values) != 1 or not isinstance(values[0], type):
        raise HTTPError(422, message)
    return values[0]
