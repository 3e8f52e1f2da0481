"""The routes: what comes in over HTTP is handed to the service, and what it gives goes out as JSON."""

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
from zebra.serve import errors, image_responses, limits
from zebra.serve.errors import HTTPError
from zebra.serve.inference import classify_images, embed_images, embed_texts
from zebra.serve.metrics import MetricsMiddleware
from zebra.serve.middleware.body_limit import BodyLimitMiddleware
from zebra.serve.middleware.security_headers import AuthMiddleware, SecurityHeadersMiddleware
from zebra.serve.schema import (
    AnyClassifyRequest,
    ClassifyResponse,
    ClassifyResult,
    ColumnInfo,
    Embedding,
    EmbeddingsRequest,
    EmbeddingsResponse,
    EmbedRequest,
    EmbedResponse,
    ErrorResponse,
    HealthResponse,
    LabelScore,
    RequestImage,
    RequestLimits,
    RowResponse,
    SearchRequest,
    SearchResponse,
    ServedModelInfo,
    ServerInfo,
    StoreInfo,
    Usage,
    ZeroShotRequest,
)
from zebra.serve.search import PLACES, row_response, search_store
from zebra.serve.service import Service
from zebra.values import Prediction

PACKAGE_DIR = Path(__file__).parent
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in (400, 401, 404, 408, 413, 422, 429, 500, 503)
}


def create_app(
    service: Service,
    *,
    map_routes: APIRouter | None = None,
    quiz_routes: APIRouter | None = None,
    quiz_names: Sequence[str] = (),
) -> FastAPI:
    """Put HTTP around a service.

    Args:
        map_routes: Routes of the map, below /v1/map.
        quiz_routes: Routes of the quiz, below /v1/quiz.
        quiz_names: Of its sets.
    """

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        async with service.lifespan():
            yield

    config = service.config
    app = FastAPI(
        title="zebra",
        version=__version__,
        summary="Name what is in pictures, and find pictures by saying what is in them.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses=ERROR_RESPONSES,
        middleware=[
            Middleware(MetricsMiddleware, metrics=service.metrics),
            Middleware(SecurityHeadersMiddleware),
            Middleware(errors.ErrorMiddleware),
            Middleware(
                AuthMiddleware,
                api_key=config.api_key,
                is_local=config.is_loopback,
                is_draining=lambda: service.is_draining,
            ),
            Middleware(
                BodyLimitMiddleware,
                max_bytes=limits.MAX_BODY_BYTES,
                max_total_bytes=limits.MAX_TOTAL_BODY_BYTES,
                timeout_seconds=limits.BODY_TIMEOUT_SECONDS,
                concurrency_limit=service.concurrency_limit,
            ),
        ],
    )
    errors.add_exception_handlers(app)
    # On the app itself: a request that an included router answers is matched twice, a twentieth of its cost.
    _add_model_routes(app, service)
    _add_store_routes(app, service)
    _add_health_routes(app, service)
    for router in (map_routes, quiz_routes):
        if router is not None:
            app.include_router(router)

    @app.get("/v1/about")
    async def about() -> ServerInfo:
        """Say what this service is and can do."""
        return _server_info(service, quiz_names, map_routes is not None)

    for name in ("page", "reference"):
        if (PACKAGE_DIR / name).is_dir():
            app.mount(f"/{name}", StaticFiles(directory=PACKAGE_DIR / name))
    app.add_route(
        "/", lambda _request: FileResponse(PACKAGE_DIR / "page" / "index.html"), include_in_schema=False
    )
    app.add_route(
        "/docs",
        lambda _request: FileResponse(PACKAGE_DIR / "reference" / "index.html"),
        include_in_schema=False,
    )
    return app


def _add_model_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/classify", tags=["model"])
    async def classify_pictures(
        asked: AnyClassifyRequest,
    ) -> ClassifyResponse | list[LabelScore] | list[list[LabelScore]]:
        """Rank labels for every picture, best first; Hugging Face's request gets Hugging Face's answer."""
        if isinstance(asked, ZeroShotRequest):
            several = isinstance(asked.inputs, list)
            inputs = asked.inputs if isinstance(asked.inputs, list) else [asked.inputs]
            pictures = [RequestImage(data=data) for data in inputs]
            said = asked.parameters
            ranked, _warnings = await classify_images(
                service, pictures, said.candidate_labels, [said.hypothesis_template]
            )
            return [_label_scores(one) for one in ranked] if several else _label_scores(ranked[0])
        ranked, warnings = await classify_images(service, asked.images, asked.labels, asked.templates)
        return ClassifyResponse(
            results=[ClassifyResult(scores=_label_scores(one)) for one in ranked], warnings=warnings
        )

    @app.post("/v1/embed", tags=["model"])
    async def embed(asked: EmbedRequest) -> EmbedResponse:
        """Return unit vectors of pictures or texts; pictures and texts can be compared."""
        fingerprint = service.encoder.metadata.fingerprint
        if asked.images is not None:
            vectors_NE = await embed_images(service, asked.images)
            return EmbedResponse(vectors=vectors_NE.tolist(), fingerprint=fingerprint, warnings=[])
        texts, warnings = await embed_texts(service, asked.texts or [])
        return EmbedResponse(
            vectors=[text.vector_E.tolist() for text in texts], fingerprint=fingerprint, warnings=warnings
        )

    @app.post("/v1/embeddings", tags=["model"])
    async def embeddings(asked: EmbeddingsRequest) -> EmbeddingsResponse:
        """Return unit vectors of texts, as OpenAI's client asks for them."""
        facts = service.encoder.metadata
        if asked.dimensions not in (None, facts.embed_dim):
            raise HTTPError(
                400, f"this model's vectors have {facts.embed_dim} dimensions; leave dimensions out"
            )
        texts, _warnings = await embed_texts(
            service, [asked.input] if isinstance(asked.input, str) else asked.input
        )
        tokens = sum(text.num_tokens for text in texts)
        data: list[list[float] | str] = [
            base64.b64encode(text.vector_E.numpy().astype("<f4").tobytes()).decode()
            if asked.encoding_format == "base64"
            else text.vector_E.tolist()
            for text in texts
        ]
        return EmbeddingsResponse(
            data=[Embedding(index=index, embedding=vector) for index, vector in enumerate(data)],
            model=model_name(service),
            usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
        )


def _add_store_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/search", tags=["store"])
    async def search(asked: SearchRequest) -> SearchResponse:
        """Find pictures by what is in them, by a picture, by more or less of both."""
        return await search_store(service, asked)

    @app.get("/v1/rows/{id:path}", tags=["store"])
    async def row(id: str) -> RowResponse:
        """Return what the store holds of one picture."""
        found = await service.read_pool(service.searcher.read_row, id)
        if found is None:
            raise HTTPError(404, "the store has no picture with this id")
        return row_response(id, found)

    @app.get("/v1/images/{id:path}/thumbnail", tags=["store"], response_class=Response)
    async def thumbnail(id: str, side: limits.ThumbnailSide = 192) -> Response:
        """Return a small picture of a row; a placeholder with `X-Picture: missing` if it is gone."""
        return await image_responses.thumbnail_response(service, id, side)

    @app.get(
        "/v1/images/{id:path}",
        tags=["store"],
        response_class=Response,
        responses={410: {"model": ErrorResponse}},
    )
    async def image(id: str) -> Response:
        """Return the picture of a row as it lies on disk."""
        return await image_responses.original_response(service, id)


def _add_health_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["state"])
    async def alive() -> HealthResponse:
        """Say that the process lives."""
        return HealthResponse(status="ok")

    @app.get("/readyz", tags=["state"], responses={503: {"model": HealthResponse}})
    async def ready(response: Response) -> HealthResponse:
        """Say whether requests are answered: the model is warm, its queues are served, and nobody stops the server."""
        if not service.is_ready:
            response.status_code = 503
            return HealthResponse(status="not ready")
        return HealthResponse(status="ready")

    @app.get("/metrics", tags=["state"], response_class=Response)
    async def metrics() -> Response:
        """Return figures for Prometheus."""
        return Response(service.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _server_info(service: Service, quiz_names: Sequence[str], has_map: bool) -> ServerInfo:
    facts, gallery = service.encoder.metadata, service.search_backend
    store = None
    if gallery is not None:
        columns = [
            ColumnInfo(name=name, type=kind)
            for name, kind in gallery.searcher.filterable_columns
            if name not in PLACES
        ]
        store = StoreInfo(
            rows=len(gallery.searcher), columns=columns, captions=bool(gallery.example_captions)
        )
    return ServerInfo(
        version=__version__,
        model=ServedModelInfo(
            name=model_name(service),
            fingerprint=facts.fingerprint,
            embed_dim=facts.embed_dim,
            image_size=facts.image_size,
            context_length=facts.context_length,
            precision=facts.precision,
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
        examples=[] if gallery is None else [*service.config.example_queries, *gallery.example_captions],
    )


def model_name(service: Service) -> str:
    """Return what a model is called: a name of the hub, or the last words of its path."""
    model = service.config.model or "model"
    if model.startswith("hf:"):
        return model
    parts = [part for part in Path(model).parts if part not in ("/", ".", "..")]
    return "/".join(parts[-2:] if parts[-1:] == ["model"] else parts[-1:]) or "model"


def _label_scores(predictions: Sequence[Prediction]) -> list[LabelScore]:
    return [LabelScore(label=prediction.label, score=prediction.score) for prediction in predictions]
