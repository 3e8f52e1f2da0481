"""HTTP route that adds images to the store."""

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from zebra.config.serve import ServeConfig
from zebra.errors import BadSample, ConfigError, StoreError
from zebra.serve.added_images import NewImage, add_images
from zebra.serve.cost import require_affordable_images
from zebra.serve.errors import HTTPError
from zebra.serve.limits import MAX_INPUTS, MAX_TEXT_LENGTH
from zebra.serve.request_images import ImageFile, decode_base64, open_image_file
from zebra.serve.requests import Base64, RequestModel
from zebra.serve.service import Service

THUMBNAIL_SIDE = 192


class AddedImage(RequestModel):
    """An image file, with its name and a caption."""

    data: Base64
    name: Annotated[str, Field(max_length=MAX_TEXT_LENGTH)] = "image"
    caption: Annotated[str, Field(max_length=MAX_TEXT_LENGTH)] | None = None


class AddRequest(RequestModel):
    """Images to add; those that cannot be decoded are skipped."""

    images: Annotated[list[AddedImage], Field(min_length=1, max_length=MAX_INPUTS)]


class SkippedImage(BaseModel):
    """An image that was not added, by its position in the request, and why."""

    index: int
    reason: str


class AddResponse(BaseModel):
    """Ids of the rows of the images that are in the store now."""

    ids: list[str]
    num_new: int
    """Number of images that were not in the store before."""
    skipped: list[SkippedImage]


def require_safe_to_add(config: ServeConfig) -> None:
    """Raise ConfigError if everybody on the network could add images, or if there is no store."""
    if config.store is None:
        raise ConfigError("allow_add needs a store. Give one with --store")
    if not config.is_loopback and config.api_key is None:
        raise ConfigError(
            f"allow_add with --host {config.host} would let everybody who reaches it fill the disk. Set a key with "
            "--api-key or $ZEBRA_API_KEY"
        )


def add_router(service: Service, store_path: Path) -> APIRouter:
    """Return the route that adds images to a store."""
    router = APIRouter(tags=["store"])
    lock = asyncio.Lock()

    @router.post("/v1/add")
    async def add(request: AddRequest) -> AddResponse:
        """Add images to the store; they are found by the next search. Other images are skipped and listed."""
        skipped: list[SkippedImage] = []
        files: dict[int, ImageFile] = {}
        for index, image in enumerate(request.images):
            name = image.name or "image"
            try:
                files[index] = open_image_file(decode_base64(image.data, name), name)
            except BadSample as error:
                skipped.append(SkippedImage(index=index, reason=str(error)))
        require_affordable_images([file.num_pixels for file in files.values()])
        service.encoder.require_capacity(len(files))
        new: list[NewImage] = []
        for index, file in files.items():
            try:
                [vector_E] = await service.encoder.encode_image_files([file])
                thumbnail = await service.encoder.resize_image(file.data, THUMBNAIL_SIDE)
            except BadSample as error:
                skipped.append(SkippedImage(index=index, reason=str(error)))
            else:
                new.append(NewImage(file.data, file.where, request.images[index].caption, vector_E, thumbnail))
        if not new:
            return AddResponse(ids=[], num_new=0, skipped=skipped)
        async with lock:
            try:
                added = await service.read_pool(add_images, store_path, new)
            except StoreError as error:  # `zebra embed` writes to it
                raise HTTPError(503, str(error), retry_after_seconds=5) from error
        return AddResponse(ids=added.ids, num_new=added.num_new, skipped=sorted(skipped, key=lambda item: item.index))

    return router
