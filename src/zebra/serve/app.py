"""The FastAPI app: routes, middleware and static files."""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware import Middleware

from zebra import __version__
from zebra.models.clip import truncate_vectors
from zebra.serve import errors, image_responses, inference, limits
from zebra.serve.browse_routes import browse_router
from zebra.serve.cost import require_affordable_vectors
from zebra.serve.errors import HTTPError
from zebra.serve.middleware.auth import AuthMiddleware
from zebra.serve.middleware.body_limit import BodyLimitMiddleware
from zebra.serve.middleware.content_type import ContentTypeMiddleware
from zebra.serve.middleware.errors import ErrorMiddleware
from zebra.serve.middleware.metrics import MetricsMiddleware
from zebra.serve.middleware.security_headers import SecurityHeadersMiddleware
from zebra.serve.requests import (
    AnyClassifyRequest,
    EmbeddingsRequest,
    EmbedRequest,
    RequestImage,
    SearchRequest,
    ZeroShotRequest,
)
from zebra.serve.responses import (
    ClassifyResponse,
    ClassifyResult,
    ColumnInfo,
    Embedding,
    EmbeddingsResponse,
    EmbedResponse,
    ErrorResponse,
    HealthResponse,
    LabelScore,
    RequestLimits,
    RowResponse,
    SearchResponse,
    ServedModelInfo,
    ServerInfo,
    StoreInfo,
    Usage,
)
from zebra.serve.search import row_response, search_store
from zebra.serve.service import Service
from zebra.store.schema import INTERNAL_COLUMNS
from zebra.values import Prediction

PACKAGE_DIR = Path(__file__).parent
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in (400, 401, 404, 408, 413, 415, 422, 429, 500, 503)
}


def create_app(
    service: Service,
    *,
    map_routes: APIRouter | None = None,
    quiz_routes: APIRouter | None = None,
    quiz_names: Sequence[str] = (),
) -> FastAPI:
    """Return the HTTP app of a service.

    Args:
        map_routes: Routes of the map, below /v1/map.
        quiz_routes: Routes of the quiz, below /v1/quiz.
        quiz_names: Names of the quiz datasets.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with service.lifespan():
            yield

    config = service.config
    app = FastAPI(
        title="zebra",
        version=__version__,
        summary="Name what is in images, and find images by describing them.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=ERROR_RESPONSES,
        middleware=[
            Middleware(MetricsMiddleware, metrics=service.metrics),
            Middleware(SecurityHeadersMiddleware),
            Middleware(ErrorMiddleware),
            Middleware(
                AuthMiddleware,
                api_key=config.api_key,
                is_local=config.is_loopback,
                is_draining=lambda: service.is_draining,
            ),
            Middleware(ContentTypeMiddleware),
            Middleware(
                BodyLimitMiddleware,
                max_bytes=limits.MAX_BODY_BYTES,
                max_total_bytes=limits.MAX_TOTAL_BODY_BYTES,
                timeout_seconds=limits.BODY_TIMEOUT_SECONDS,
                response_timeout_seconds=config.batching.timeout_seconds,
                concurrency_limit=service.concurrency_limit,
            ),
        ],
    )
    errors.add_exception_handlers(app)
    # These routes belong to the app itself: an included router matches each request twice, about 5 % of its cost.
    _add_model_routes(app, service)
    _add_store_routes(app, service)
    _add_health_routes(app, service)
    for router in (browse_router(service), map_routes, quiz_routes):
        if router is not None:
            app.include_router(router)

    @app.get("/v1/about")
    async def get_server_info() -> ServerInfo:
        """Describe the model, the store, the limits and the optional features."""
        return _server_info(service, quiz_names, map_routes is not None)

    for name in ("page", "reference"):
        if (PACKAGE_DIR / name).is_dir():
            app.mount(f"/{name}", StaticFiles(directory=PACKAGE_DIR / name))
    app.add_route("/", lambda _request: FileResponse(PACKAGE_DIR / "page" / "index.html"), include_in_schema=False)
    app.add_route(
        "/docs", lambda _request: FileResponse(PACKAGE_DIR / "reference" / "index.html"), include_in_schema=False
    )
    return app


def _add_model_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/classify", tags=["model"])
    async def classify_images(
        request: AnyClassifyRequest,
    ) -> ClassifyResponse | list[LabelScore] | list[list[LabelScore]]:
        """Rank labels for every image, best first. A request in Hugging Face's format gets such a response."""
        if isinstance(request, ZeroShotRequest):
            is_list = isinstance(request.inputs, list)
            inputs = request.inputs if isinstance(request.inputs, list) else [request.inputs]
            images = [RequestImage(data=data) for data in inputs]
            parameters = request.parameters
            rankings, _warnings = await inference.classify_images(
                service,
                images,
                parameters.candidate_labels,
                parameters.hypothesis_template and [parameters.hypothesis_template],
            )
            results = [_label_scores(ranking) for ranking in rankings]
            return results if is_list else results[0]
        rankings, warnings = await inference.classify_images(service, request.images, request.labels, request.templates)
        return ClassifyResponse(
            results=[ClassifyResult(scores=_label_scores(ranking)) for ranking in rankings], warnings=warnings
        )

    @app.post("/v1/embed", tags=["model"])
    async def embed(request: EmbedRequest) -> EmbedResponse:
        """Return unit vectors of images or texts. Vectors of images and texts are comparable."""
        fingerprint = service.encoder.metadata.fingerprint
        if request.images is not None:
            vectors_NE = await inference.embed_images(service, request.images)
            await service.concurrency_limit.wait_for_readers()
            return EmbedResponse(vectors=vectors_NE.tolist(), fingerprint=fingerprint, warnings=[])
        texts, warnings = await inference.embed_texts(service, request.texts or [])
        return EmbedResponse(
            vectors=[text.vector_E.tolist() for text in texts], fingerprint=fingerprint, warnings=warnings
        )

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


def _add_store_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/search", tags=["store"])
    async def search(request: SearchRequest) -> SearchResponse:
        """Find images by texts, by an image, or by similarity to other rows."""
        return await search_store(service, request)

    @app.get("/v1/rows/{id:path}", tags=["store"])
    async def get_row(id: str) -> RowResponse:
        """Return the columns of one row."""
        row = await service.read_pool(service.searcher.read_row, id)
        if row is None:
            raise HTTPError(404, "the store has no image with this id")
        return row_response(id, row)

    @app.get("/v1/images/{id:path}/thumbnail", tags=["store"], response_class=Response)
    async def get_thumbnail(id: str, side: limits.ThumbnailSide = 192) -> Response:
        """Return the thumbnail of a row; a placeholder with `X-Image: missing` if the image is missing."""
        return await image_responses.thumbnail_response(service, id, side)

    @app.get("/v1/images/{id:path}", tags=["store"], response_class=Response, responses={410: {"model": ErrorResponse}})
    async def get_image(id: str) -> Response:
        """Return the original image file of a row."""
        return await image_responses.original_response(service, id)


def _add_health_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> HealthResponse:
        """Return 200 while the process is alive."""
        return HealthResponse(status="ok")

    @app.get("/readyz", tags=["health"], responses={503: {"model": HealthResponse}})
    async def readyz(response: Response) -> HealthResponse:
        """Return 200 if requests are answered: the model is warm, no batch hangs and the server is not draining."""
        if not service.is_ready:
            response.status_code = 503
            return HealthResponse(status="not ready")
        return HealthResponse(status="ready")

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """Return metrics for Prometheus."""
        return Response(service.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _server_info(service: Service, quiz_names: Sequence[str], has_map: bool) -> ServerInfo:
    metadata, backend = service.encoder.metadata, service.search_backend
    store = None
    if backend is not None:
        columns = [
            ColumnInfo(name=name, type=type)
            for name, type in backend.searcher.filterable_columns
            if name not in INTERNAL_COLUMNS
        ]
        store = StoreInfo(rows=len(backend.searcher), columns=columns, captions=bool(backend.example_captions))
    return ServerInfo(
        version=__version__,
        model=ServedModelInfo(
            name=model_name(service),
            fingerprint=metadata.fingerprint,
            embed_dim=metadata.embed_dim,
            image_size=metadata.image_size,
            context_length=metadata.context_length,
            precision=metadata.precision,
            templates=metadata.templates,
        ),
        store=store,
        limits=RequestLimits(
            labels=limits.MAX_LABELS,
            text_length=limits.MAX_TEXT_LENGTH,
            k=limits.MAX_HITS,
            batch=limits.MAX_INPUTS,
            body_bytes=limits.MAX_BODY_BYTES,
            pixels=limits.MAX_PIXELS,
        ),
        quiz=list(quiz_names),
        map=has_map,
        urls=bool(service.config.allow_url_hosts),
        examples=[] if backend is None else [*service.config.example_queries, *backend.example_captions],
    )


def model_name(service: Service) -> str:
    """Return the display name of the model: its hub name, or the last parts of its path."""
    model = service.config.model or "model"
    if model.startswith("hf:") or not Path(model).exists():
        return model
    parts = [part for part in Path(model).parts if part not in ("/", ".", "..")]
    return "/".join(parts[-2:] if parts[-1:] == ["model"] else parts[-1:]) or "model"


def _label_scores(predictions: Sequence[Prediction]) -> list[LabelScore]:
    return [LabelScore(label=prediction.label, score=prediction.score) for prediction in predictions]
