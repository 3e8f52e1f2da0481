"""HTTP routes in the format of OpenAI's API: embeddings."""

import base64

from fastapi import FastAPI

from zebra.models.clip import truncate_vectors
from zebra.serve import inference
from zebra.serve.cost import require_affordable_vectors
from zebra.serve.errors import HTTPError
from zebra.serve.requests import EmbeddingsRequest
from zebra.serve.responses import Embedding, EmbeddingsResponse, Usage
from zebra.serve.server_info import model_name
from zebra.serve.service import Service


def add_openai_routes(app: FastAPI, service: Service) -> None:
    """Add /v1/embeddings to an app."""

    @app.post("/v1/embeddings", tags=["model"])
    async def embeddings(request: EmbeddingsRequest) -> EmbeddingsResponse:
        """Return unit vectors of texts, in the format of OpenAI's API."""
        metadata = service.encoder.metadata
        size = request.dimensions or metadata.embed_dim
        if size not in (sizes := (*metadata.dimensions, metadata.embed_dim)):
            supported = ", ".join(map(str, sizes))
            raise HTTPError(400, f"this model's vectors have {supported} dimensions; take these, or leave them out")
        if request.encoding_format == "float":
            require_affordable_vectors(len(request.input), size)
        texts, _warnings = await inference.embed_texts(service, request.input)
        await service.concurrency_limit.wait_for_readers()
        num_tokens = sum(text.num_tokens for text in texts)
        vectors = [text.vector_E for text in texts]
        if size < metadata.embed_dim:
            vectors = [truncate_vectors(vector_E[None], size)[0] for vector_E in vectors]
        data: list[list[float] | str] = [
            base64.b64encode(vector_E.numpy().astype("<f4").tobytes()).decode()
            if request.encoding_format == "base64"
            else vector_E.tolist()
            for vector_E in vectors
        ]
        return EmbeddingsResponse(
            data=[Embedding(index=index, embedding=vector) for index, vector in enumerate(data)],
            model=model_name(service),
            usage=Usage(prompt_tokens=num_tokens, total_tokens=num_tokens),
        )
