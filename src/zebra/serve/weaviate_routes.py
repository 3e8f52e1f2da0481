"""HTTP routes as Weaviate calls its multi2vec-clip inference.

The formats are those of clip.py and app.py in multi2vec-clip-inference, and of modules/multi2vec-clip in Weaviate.
"""

from typing import Annotated, Any

from fastapi import FastAPI, Response
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from zebra.serve import inference
from zebra.serve.cost import require_affordable_vectors
from zebra.serve.errors import HTTPError
from zebra.serve.limits import MAX_INPUTS, MAX_TEXT_LENGTH
from zebra.serve.requests import Base64, RequestImage, RequestModel
from zebra.serve.responses import ServedModelInfo, WeaviateError, WeaviateVectors
from zebra.serve.server_info import served_model_info
from zebra.serve.service import Service

WEAVIATE_PATH = "/vectorize"
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": WeaviateError} for status in (400, 401, 404, 408, 413, 415, 422, 429, 500, 503)
}


def _cut(text: str) -> str:
    return text[:MAX_TEXT_LENGTH]


def _none_to_empty(value: Any) -> Any:
    return [] if value is None else value


class VectorizeRequest(RequestModel):
    """Texts and images of one object. Texts are cut to 2,000 characters: properties may be long, a model reads less."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    texts: Annotated[
        list[Annotated[str, AfterValidator(_cut)]],
        Field(max_length=MAX_INPUTS, default_factory=list),
        BeforeValidator(_none_to_empty),
    ]
    images: Annotated[list[Base64], Field(max_length=MAX_INPUTS, default_factory=list), BeforeValidator(_none_to_empty)]


def add_weaviate_routes(app: FastAPI, service: Service) -> None:
    """Add /vectorize, /meta, /.well-known/ready and /.well-known/live to an app."""

    @app.post(WEAVIATE_PATH, tags=["weaviate"], responses=ERRORS)
    async def vectorize(request: VectorizeRequest) -> WeaviateVectors:
        """Return unit vectors of texts and images."""
        embed_dim = service.encoder.metadata.embed_dim
        require_affordable_vectors(len(request.texts) + len(request.images), embed_dim)
        vectors = WeaviateVectors(textVectors=[], imageVectors=[])
        if request.texts:
            texts, _warnings = await inference.embed_texts(service, request.texts)
            vectors.textVectors = [text.vector_E.tolist() for text in texts]
        if request.images:
            images = [RequestImage(data=data) for data in request.images]
            vectors.imageVectors = (await inference.embed_images(service, images)).tolist()
        return vectors

    @app.get("/meta", tags=["weaviate"])
    async def meta() -> ServedModelInfo:
        """Describe the model."""
        return served_model_info(service)

    @app.get("/.well-known/live", tags=["weaviate"], status_code=204)
    async def is_live() -> None:
        """Return 204 while the process is alive."""

    @app.get("/.well-known/ready", tags=["weaviate"], status_code=204, response_class=Response)
    async def is_ready() -> Response:
        """Return 204 if requests are answered."""
        if not service.is_ready:
            raise HTTPError(503, "the model is still loading", retry_after_seconds=2)
        return Response(status_code=204)
