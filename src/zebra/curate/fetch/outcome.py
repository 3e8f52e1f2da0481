"""The outcome of a download: one state per URL, with a reason."""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

FetchStatus = Literal["kept", "permanent", "passing"]
"""kept: the bytes are stored. permanent: trying again would not help. passing: it might."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchedImage:
    """What became of one URL."""

    url: str
    """As given."""
    status: FetchStatus
    reason: str | None = None
    """Short phrase under which failures are counted; None if the image is kept."""
    detail: str = ""
    time: int = 0
    """When it was decided, in seconds since 1970."""
    num_tries: int = 0
    """Requests for the image in this run; none if the address was refused."""
    final_url: str | None = None
    """Where redirects led to; None without any."""
    offset: int = 0
    """Position of the stored bytes in the folder's file of images."""
    num_bytes: int = 0
    """Length of the stored bytes."""
    sha256: bytes | None = None
    """Digest of the stored bytes."""
    source_sha256: bytes | None = None
    """Digest of the bytes that the server sent; differs from `sha256` if the image was resized."""
    media_type: str | None = None
    """Of the stored bytes, by their first bytes: image/jpeg, image/png, image/webp, image/gif or image/bmp."""


class FetchFailure(Exception):
    """A request, or an address, that yields no image.

    Attributes:
        should_retry: Whether another request may succeed within this run.
        blames_host: Whether the connection failed, so that other images of the host are likely to fail too.
        retry_after: Seconds that the server asks to wait; None if it does not say.
    """

    def __init__(
        self,
        status: FetchStatus,
        reason: str,
        detail: str = "",
        *,
        should_retry: bool = False,
        blames_host: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.should_retry = should_retry
        self.blames_host = blames_host
        self.retry_after = retry_after


def failed_future(failure: FetchFailure) -> asyncio.Future[Any]:
    """Return a future for a cache that raises a failure, and holds no frames of where it was raised."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    failure.__cause__ = failure.__context__ = None
    future.set_exception(failure.with_traceback(None))
    future.exception()  # it need not be retrieved
    return future
