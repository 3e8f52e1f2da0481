"""The FastAPI app: routes, middleware and static files."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware import Middleware

from zebra import __version__
from zebra.errors import ConfigError
from zebra.serve import errors, limits
from zebra.serve.add_routes import add_router, require_safe_to_add
from zebra.serve.browse_routes import browse_router
from zebra.serve.download_routes import download_router
from zebra.serve.duplicates_routes import duplicates_router
from zebra.serve.forms import FORM_PATHS
from zebra.serve.health_routes import add_health_routes
from zebra.serve.heat_map_routes import heat_map_router
from zebra.serve.immich_routes import IMMICH_PATH, add_immich_routes
from zebra.serve.middleware.auth import AuthMiddleware
from zebra.serve.middleware.body_limit import BodyLimitMiddleware
from zebra.serve.middleware.content_type import ContentTypeMiddleware
from zebra.serve.middleware.cors import OriginMiddleware
from zebra.serve.middleware.cross_site import CrossSiteMiddleware
from zebra.serve.middleware.errors import ErrorMiddleware
from zebra.serve.middleware.flat_errors import FlatErrorMiddleware
from zebra.serve.middleware.metrics import MetricsMiddleware
from zebra.serve.middleware.root_path import RootPathMiddleware
from zebra.serve.middleware.security_headers import SecurityHeadersMiddleware
from zebra.serve.model_routes import add_model_routes
from zebra.serve.openai_routes import add_openai_routes
from zebra.serve.responses import ErrorResponse, ServerInfo
from zebra.serve.server_info import server_info
from zebra.serve.service import Service
from zebra.serve.store_routes import add_store_routes
from zebra.serve.weaviate_routes import WEAVIATE_PATH, add_weaviate_routes

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

    Raises:
        ConfigError: The root path begins like a route, or images could be added by everybody or without a store.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with service.lifespan():
            yield

    root_path = service.config.root_path
    app = FastAPI(
        title="zebra",
        version=__version__,
        summary="Name what is in images, and find images by describing them.",
        servers=[{"url": root_path}] if root_path else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would name the scheme and host that the proxy uses
        lifespan=lifespan,
        responses=ERROR_RESPONSES,
        middleware=_middleware(service),
    )
    errors.add_exception_handlers(app)
    # These routes belong to the app itself: an included router matches each request twice, about 5 % of its cost.
    add_model_routes(app, service)
    add_openai_routes(app, service)
    add_store_routes(app, service)
    add_immich_routes(app, service)
    add_weaviate_routes(app, service)
    add_health_routes(app, service)
    own_routers = (browse_router(service), download_router(service), heat_map_router(service))
    for router in (*own_routers, map_routes, quiz_routes):
        if router is not None:
            app.include_router(router)
    if service.config.allow_add:
        require_safe_to_add(service.config)
    if service.config.store is not None:
        app.include_router(duplicates_router(service, Path(service.config.store)))
        if service.config.allow_add:
            app.include_router(add_router(service, Path(service.config.store)))

    @app.get("/v1/about")
    async def get_server_info() -> ServerInfo:
        """Describe the model, the store, the limits and the optional features."""
        return server_info(service, quiz_names, map_routes is not None)

    for name in ("page", "reference"):
        if (PACKAGE_DIR / name).is_dir():
            app.mount(f"/{name}", StaticFiles(directory=PACKAGE_DIR / name))
    app.add_route("/", lambda _request: FileResponse(PACKAGE_DIR / "page" / "index.html"), include_in_schema=False)
    app.add_route(
        "/docs", lambda _request: FileResponse(PACKAGE_DIR / "reference" / "index.html"), include_in_schema=False
    )
    _require_distinct_root_path(app, root_path)
    return app


def _middleware(service: Service) -> list[Middleware]:
    """Return the middleware, outermost first."""
    config = service.config
    root_path = [Middleware(RootPathMiddleware, root_path=config.root_path)] if config.root_path else []
    cors = [Middleware(OriginMiddleware, origins=config.cors)] if config.cors else []
    return [
        *root_path,
        Middleware(MetricsMiddleware, metrics=service.metrics),
        Middleware(SecurityHeadersMiddleware),
        *cors,
        Middleware(FlatErrorMiddleware, paths=[WEAVIATE_PATH]),
        Middleware(ErrorMiddleware),
        Middleware(
            AuthMiddleware, api_key=config.api_key, is_local=config.is_loopback, is_draining=lambda: service.is_draining
        ),
        Middleware(CrossSiteMiddleware, origins=config.cors),
        Middleware(ContentTypeMiddleware, form_paths=FORM_PATHS, form_only_paths=[IMMICH_PATH]),
        Middleware(
            BodyLimitMiddleware,
            max_bytes=limits.MAX_BODY_BYTES,
            max_total_bytes=limits.MAX_TOTAL_BODY_BYTES,
            timeout_seconds=limits.BODY_TIMEOUT_SECONDS,
            response_timeout_seconds=config.batching.timeout_seconds,
            concurrency_limit=service.concurrency_limit,
        ),
    ]


def _require_distinct_root_path(app: FastAPI, root_path: str) -> None:
    """Reject a root path that begins like a route: whether the proxy has stripped it would be unknown."""
    own = {route.path.split("/")[1] for route in app.routes if hasattr(route, "path")} - {""}
    if root_path.split("/")[1:2] and root_path.split("/")[1] in own:
        raise ConfigError(
            f"root_path is {root_path}, but the server has routes below /{root_path.split('/')[1]}. Choose another "
            "path, such as /zebra."
        )
