"""HTTP routes in the format of OpenAI's API: embeddings and models."""

import base64
import time
from collections.abc import Sequence

from fastapi import FastAPI

from zebra.search.arrow_rows import to_unit_vectors
from zebra.serve import inference
from zebra.serve.cost import require_affordable_vectors
from zebra.serve.embeddings_request import EmbeddingsRequest
from zebra.serve.errors import HTTPError
from zebra.serve.json_route import JSONRoute
from zebra.serve.model_client import Vector
from zebra.serve.responses import Embedding, EmbeddingsResponse, ModelCard, ModelList, Usage
from zebra.serve.server_info import model_name
from zebra.serve.service import Service

UNNAMED_MODELS = ("", "default/not-specified")
"""No name, and what infinity's client sends without one."""


def add_openai_routes(app: FastAPI, service: Service) -> None:
    """Add /v1/embeddings and /v1/models to an app."""
    names = [model_name(service), *filter(None, [service.config.model])]
    created = int(time.time())

    @app.get("/v1/models", tags=["model"])
    async def list_models() -> ModelList:
        """List the model that is served, in the format of OpenAI's API."""
        return ModelList(data=[ModelCard(id=names[0], created=created)])

    @app.get("/v1/models/{id:path}", tags=["model"])
    async def get_model(id: str) -> ModelCard:
        """Return the model that is served, if the name is its own."""
        _require_served(id, names)
        return ModelCard(id=names[0], created=created)

    async def embeddings(request: EmbeddingsRequest) -> EmbeddingsResponse:
        """Return unit vectors of texts or images, in the format of OpenAI's API."""
        if request.model not in UNNAMED_MODELS:
            _require_served(request.model, names)
        metadata = service.encoder.metadata
        size = request.dimensions or metadata.embed_dim
        if size not in (sizes := (*metadata.dimensions, metadata.embed_dim)):
            supported = ", ".join(map(str, sizes))
            raise HTTPError(400, f"this model's vectors have {supported} dimensions; take these, or leave them out")
        if request.encoding_format == "float":
            require_affordable_vectors(max(1, len(request.input)), size)
        vectors, num_tokens = await _embed(service, request)
        await service.concurrency_limit.wait_for_readers()
        if size < metadata.embed_dim:
            vectors = [to_unit_vectors(vector_E[None, :size])[0] for vector_E in vectors]
        data: list[list[float] | str] = [
            base64.b64encode(vector_E.astype("<f4").tobytes()).decode()
            if request.encoding_format == "base64"
            else vector_E.tolist()
            for vector_E in vectors
        ]
        return EmbeddingsResponse(
            data=[Embedding(index=index, embedding=vector) for index, vector in enumerate(data)],
            model=names[0],
            usage=Usage(prompt_tokens=num_tokens, total_tokens=num_tokens),
        )

    app.router.add_api_route(
        "/v1/embeddings", embeddings, methods=["POST"], tags=["model"], route_class_override=JSONRoute
    )


async def _embed(service: Service, request: EmbeddingsRequest) -> tuple[list[Vector], int]:
    """Return a vector [E] for each text or image, and the number of tokens."""
    if images := request.images:
        return list(await inference.embed_images(service, images)), 0
    texts, _warnings = await inference.embed_texts(service, request.texts)
    return [text.vector_E for text in texts], sum(text.num_tokens for text in texts)


def _require_served(name: str, names: Sequence[str]) -> None:
    """Raise HTTPError (404) for the name of another model: its vectors cannot be compared with those of this one."""
    if name not in names:
        raise HTTPError(404, f"the model {name[:200]!r} is not served here; the served model is {names[0]!r}")
