"""HTTP route that maps where an image matches a text."""

from fastapi import APIRouter
from pydantic import BaseModel

from zebra.serve.errors import HTTPError
from zebra.serve.request_images import ImageFile, load_image_files, open_image_file
from zebra.serve.requests import RequestImage, RequestModel, Text
from zebra.serve.service import Service


class HeatMapRequest(RequestModel):
    """An image and a text."""

    image: RequestImage
    text: Text


class HeatMapResponse(BaseModel):
    """How much each cell of the image raises its cosine to the text, row by row; negative cells lower it."""

    values: list[list[float]]
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of the cells, as fractions of the image's width and height."""


def heat_map_router(service: Service) -> APIRouter:
    """Return the route of heat maps."""
    router = APIRouter(tags=["model"])

    @router.post("/v1/heat_map")
    async def heat_map(request: HeatMapRequest) -> HeatMapResponse:
        """Map where an image matches a text."""
        result = await service.encoder.heat_map(await _load_image(service, request.image), request.text)
        return HeatMapResponse(values=result.values_HW.tolist(), box=result.box)

    return router


async def _load_image(service: Service, image: RequestImage) -> ImageFile:
    """Return the file of an image, which may be a row of the store; HTTPError (410) if that has no file any more."""
    if image.id is None:
        return (await load_image_files([image], service.config.allow_url_hosts))[0]
    original = await service.read_pool(service.searcher.read_image, image.id)
    if original is None:
        raise HTTPError(410, "the image file is missing or has changed")
    return open_image_file(original.data, "the image")
