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
from zebra.serve.errors import Refusal
from zebra.serve.inference import classify, picture_vectors, text_vectors
from zebra.serve.metrics import Measured
from zebra.serve.middleware.body_limit import Bodies
from zebra.serve.middleware.security_headers import Doorkeeper, SecureHeaders
from zebra.serve.schema import (
    About,
    AnyClassifyRequest,
    ClassifyAnswer,
    Column,
    EmbedAnswer,
    Embedding,
    EmbeddingsAnswer,
    EmbeddingsRequest,
    EmbedRequest,
    LabelScore,
    Limits,
    ModelFacts,
    Picture,
    Problem,
    Ranked,
    RowAnswer,
    SearchAnswer,
    SearchRequest,
    State,
    StoreInfo,
    Usage,
    ZeroShotRequest,
)
from zebra.serve.search import PLACES, described, find
from zebra.serve.service import Service
from zebra.values import Prediction

HERE = Path(__file__).parent
STATUSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 401, 404, 408, 413, 422, 429, 500, 503)
}


def create_app(
    service: Service,
    *,
    map: APIRouter | None = None,
    quiz: APIRouter | None = None,
    quiz_names: Sequence[str] = (),
) -> FastAPI:
    """Put HTTP around a service.

    Args:
        map: Routes of the map, below /v1/map.
        quiz: Routes of the quiz, below /v1/quiz.
        quiz_names: Of its sets.
    """

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        async with service.run():
            yield

    config = service.config
    app = FastAPI(
        title="zebra",
        version=__version__,
        summary="Name what is in pictures, and find pictures by saying what is in them.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses=STATUSES,
        middleware=[
            Middleware(Measured, metrics=service.metrics),
            Middleware(SecureHeaders),
            Middleware(errors.Faults),
            Middleware(
                Doorkeeper,
                api_key=config.api_key,
                is_local=config.is_local,
                is_closing=lambda: service.is_draining,
            ),
            Middleware(
                Bodies,
                most=limits.BODY_BYTES,
                most_together=limits.HELD_BYTES,
                seconds=limits.BODY_SECONDS,
                places=service.places,
            ),
        ],
    )
    errors.install(app)
    # On the app itself: a request that an included router answers is matched twice, a twentieth of its cost.
    _add_model_routes(app, service)
    _add_store_routes(app, service)
    _add_state_routes(app, service)
    for router in (map, quiz):
        if router is not None:
            app.include_router(router)

    @app.get("/v1/about")
    async def about() -> About:
        """Say what this service is and can do."""
        return _about(service, quiz_names, map is not None)

    for name in ("page", "reference"):
        if (HERE / name).is_dir():
            app.mount(f"/{name}", StaticFiles(directory=HERE / name))
    app.add_route("/", lambda _request: FileResponse(HERE / "page" / "index.html"), include_in_schema=False)
    app.add_route(
        "/docs", lambda _request: FileResponse(HERE / "reference" / "index.html"), include_in_schema=False
    )
    return app


def _add_model_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/classify", tags=["model"])
    async def classify_pictures(
        asked: AnyClassifyRequest,
    ) -> ClassifyAnswer | list[LabelScore] | list[list[LabelScore]]:
        """Rank labels for every picture, best first; Hugging Face's request gets Hugging Face's answer."""
        if isinstance(asked, ZeroShotRequest):
            several = isinstance(asked.inputs, list)
            inputs = asked.inputs if isinstance(asked.inputs, list) else [asked.inputs]
            pictures = [Picture(data=data) for data in inputs]
            said = asked.parameters
            ranked, _warnings = await classify(
                service, pictures, said.candidate_labels, [said.hypothesis_template]
            )
            return [_scores(one) for one in ranked] if several else _scores(ranked[0])
        ranked, warnings = await classify(service, asked.images, asked.labels, asked.templates)
        return ClassifyAnswer(results=[Ranked(scores=_scores(one)) for one in ranked], warnings=warnings)

    @app.post("/v1/embed", tags=["model"])
    async def embed(asked: EmbedRequest) -> EmbedAnswer:
        """Return unit vectors of pictures or texts; pictures and texts can be compared."""
        fingerprint = service.encoder.facts.fingerprint
        if asked.images is not None:
            vectors_NE = await picture_vectors(service, asked.images)
            return EmbedAnswer(vectors=vectors_NE.tolist(), fingerprint=fingerprint, warnings=[])
        texts, warnings = await text_vectors(service, asked.texts or [])
        return EmbedAnswer(
            vectors=[text.vector_E.tolist() for text in texts], fingerprint=fingerprint, warnings=warnings
        )

    @app.post("/v1/embeddings", tags=["model"])
    async def embeddings(asked: EmbeddingsRequest) -> EmbeddingsAnswer:
        """Return unit vectors of texts, as OpenAI's client asks for them."""
        facts = service.encoder.facts
        if asked.dimensions not in (None, facts.embed_dim):
            raise Refusal(
                400, f"this model's vectors have {facts.embed_dim} dimensions; leave dimensions out"
            )
        texts, _warnings = await text_vectors(
            service, [asked.input] if isinstance(asked.input, str) else asked.input
        )
        tokens = sum(text.tokens for text in texts)
        data: list[list[float] | str] = [
            base64.b64encode(text.vector_E.numpy().astype("<f4").tobytes()).decode()
            if asked.encoding_format == "base64"
            else text.vector_E.tolist()
            for text in texts
        ]
        return EmbeddingsAnswer(
            data=[Embedding(index=index, embedding=vector) for index, vector in enumerate(data)],
            model=model_name(service),
            usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
        )


def _add_store_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/search", tags=["store"])
    async def search(asked: SearchRequest) -> SearchAnswer:
        """Find pictures by what is in them, by a picture, by more or less of both."""
        return await find(service, asked)

    @app.get("/v1/rows/{id:path}", tags=["store"])
    async def row(id: str) -> RowAnswer:
        """Return what the store holds of one picture."""
        found = await service.reading(service.searcher.row, id)
        if found is None:
            raise Refusal(404, "the store has no picture with this id")
        return described(id, found)

    @app.get("/v1/images/{id:path}/thumbnail", tags=["store"], response_class=Response)
    async def thumbnail(id: str, side: limits.Side = 192) -> Response:
        """Return a small picture of a row; a placeholder with `X-Picture: missing` if it is gone."""
        return await image_responses.thumbnail(service, id, side)

    @app.get(
        "/v1/images/{id:path}", tags=["store"], response_class=Response, responses={410: {"model": Problem}}
    )
    async def image(id: str) -> Response:
        """Return the picture of a row as it lies on disk."""
        return await image_responses.original(service, id)


def _add_state_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["state"])
    async def alive() -> State:
        """Say that the process lives."""
        return State(status="ok")

    @app.get("/readyz", tags=["state"], responses={503: {"model": State}})
    async def ready(response: Response) -> State:
        """Say whether requests are answered: the model is warm, its queues are served, and nobody stops the server."""
        if not service.is_ready:
            response.status_code = 503
            return State(status="not ready")
        return State(status="ready")

    @app.get("/metrics", tags=["state"], response_class=Response)
    async def metrics() -> Response:
        """Return figures for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _about(service: Service, quiz_names: Sequence[str], has_map: bool) -> About:
    facts, gallery = service.encoder.facts, service.gallery
    store = None
    if gallery is not None:
        columns = [
            Column(name=name, type=kind) for name, kind in gallery.searcher.columns if name not in PLACES
        ]
        store = StoreInfo(rows=len(gallery.searcher), columns=columns, captions=bool(gallery.captions))
    return About(
        version=__version__,
        model=ModelFacts(
            name=model_name(service),
            fingerprint=facts.fingerprint,
            embed_dim=facts.embed_dim,
            image_size=facts.image_size,
            context_length=facts.context_length,
            precision=facts.precision,
        ),
        store=store,
        limits=Limits(
            labels=limits.LABELS,
            text_length=limits.TEXT_LENGTH,
            k=limits.HITS,
            batch=limits.BATCH,
            body_bytes=limits.BODY_BYTES,
            pixels=limits.PIXELS,
        ),
        quiz=list(quiz_names),
        map=has_map,
        urls=bool(service.config.allow_urls),
        examples=[] if gallery is None else [*service.config.examples, *gallery.captions],
    )


def model_name(service: Service) -> str:
    """Return what a model is called: a name of the hub, or the last words of its path."""
    model = service.config.model or "model"
    if model.startswith("hf:"):
        return model
    parts = [part for part in Path(model).parts if part not in ("/", ".", "..")]
    return "/".join(parts[-2:] if parts[-1:] == ["model"] else parts[-1:]) or "model"


def _scores(predictions: Sequence[Prediction]) -> list[LabelScore]:
    return [LabelScore(label=prediction.label, score=prediction.score) for prediction in predictions]
