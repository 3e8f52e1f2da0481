"""HTTP routes of the store: search, rows and images."""

from fastapi import FastAPI, Response

from zebra.serve import image_responses, limits
from zebra.serve.errors import HTTPError
from zebra.serve.forms import form_body, form_route
from zebra.serve.requests import SearchRequest
from zebra.serve.responses import ErrorResponse, RowResponse, SearchResponse
from zebra.serve.search import row_response, search_store
from zebra.serve.service import Service


def add_store_routes(app: FastAPI, service: Service) -> None:
    """Add /v1/search, /v1/rows and /v1/images to an app."""

    async def search(request: SearchRequest) -> SearchResponse:
        """Find images by texts, by an image, or by similarity to other rows."""
        return await search_store(service, request)

    app.router.add_api_route(
        "/v1/search",
        search,
        methods=["POST"],
        tags=["store"],
        route_class_override=form_route(SearchRequest),
        openapi_extra=form_body(SearchRequest),
    )

    @app.get("/v1/rows/{id:path}", tags=["store"])
    async def get_row(id: str) -> RowResponse:
        """Return the columns of one row."""
        row = await service.read_pool(service.searcher.read_row, id)
        if row is None:
            raise HTTPError(404, "the store has no image with this id")
        return row_response(id, row, service.config.root_path)

    @app.get("/v1/images/{id:path}/thumbnail", tags=["store"], response_class=Response)
    async def get_thumbnail(id: str, side: limits.ThumbnailSide = 192) -> Response:
        """Return the thumbnail of a row; a placeholder with `X-Image: missing` if the image is missing."""
        return await image_responses.thumbnail_response(service, id, side)

    @app.get("/v1/images/{id:path}", tags=["store"], response_class=Response, responses={410: {"model": ErrorResponse}})
    async def get_image(id: str) -> Response:
        """Return the original image file of a row."""
        return await image_responses.original_response(service, id)
