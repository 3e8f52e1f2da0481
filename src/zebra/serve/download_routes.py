"""HTTP route that returns several original images as one zip file."""

import io
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import Field

from zebra.search.results import path_in_dataset
from zebra.serve.errors import HTTPError
from zebra.serve.limits import MAX_DOWNLOADS
from zebra.serve.requests import RequestModel, RowId
from zebra.serve.service import Service

EXTENSIONS = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
}
MISSING_FILE = "missing.txt"


class DownloadRequest(RequestModel):
    """Rows whose original images are wanted."""

    ids: Annotated[list[RowId], Field(min_length=1, max_length=MAX_DOWNLOADS)]


def download_router(service: Service) -> APIRouter:
    """Return the route that downloads images of the store of a service."""
    router = APIRouter(tags=["store"])

    @router.post(
        "/v1/download",
        response_class=StreamingResponse,
        responses={200: {"content": {"application/zip": {}}, "description": "a zip file"}},
    )
    async def download(request: DownloadRequest) -> StreamingResponse:
        """Return original images as a zip file; it lists those that are missing or have changed in missing.txt."""
        page = await service.read_pool(service.searcher.list_rows, ids=request.ids, k=MAX_DOWNLOADS)
        if not page.rows:
            raise HTTPError(404, "the store has no image with these ids")
        paths = {str(row["id"]): path_in_dataset(row) for row in page.rows}
        return StreamingResponse(
            _zip_images(service, list(paths), unique_names(list(paths.values()))),
            media_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="images.zip"'},
        )

    return router


def unique_names(paths: Sequence[str]) -> list[str]:
    """Return safe names for members of an archive: relative, below it, and each once.

    >>> unique_names(["a/b.png", "../b.png", "a/b.png", "b.png"])
    ['a/b.png', 'b.png', 'a/b-2.png', 'b-2.png']
    """
    seen: Counter[str] = Counter()
    names: list[str] = []
    for path in paths:
        parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("/", "..", ".")]
        name = PurePosixPath(*parts) if parts else PurePosixPath("image")
        candidate = name
        while str(candidate).casefold() in seen:
            seen[str(name).casefold()] += 1
            candidate = name.with_name(f"{name.stem}-{seen[str(name).casefold()]}{name.suffix}")
        seen[str(candidate).casefold()] += 1
        names.append(str(candidate))
    return names


async def _zip_images(service: Service, ids: Sequence[str], names: Sequence[str]) -> AsyncIterator[bytes]:
    """Yield a zip file; it holds one image at a time in memory, and stores it as it is."""
    buffer = _Chunks()
    missing: list[str] = []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for id, name in zip(ids, names, strict=True):
            await service.concurrency_limit.wait_for_readers()
            image = await service.read_pool(service.searcher.read_image, id)
            if image is None:
                missing.append(name)
                continue
            extension = "" if PurePosixPath(name).suffix else EXTENSIONS.get(image.media_type, "")
            archive.writestr(name + extension, image.data)
            yield buffer.take()
        if missing:
            archive.writestr(
                MISSING_FILE, "missing, or changed since they were embedded:\n" + "\n".join(missing) + "\n"
            )
    yield buffer.take()


class _Chunks(io.RawIOBase):
    """A file that can only be written, and whose bytes are taken away chunk by chunk."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # zipfile writes bytes
        self._chunks.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        return data
