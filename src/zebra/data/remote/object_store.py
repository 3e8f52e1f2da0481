"""Versions and byte ranges of objects at URLs, with validation of each response.

`http(s)` uses the session of fsspec's file system but validates responses here, because fsspec accepts any response to
a range request. All other protocols use fsspec directly. fsspec's caches are off: its file systems do not survive a
fork, and its cached listings hide changes.
"""

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zebra.data.remote.blobs import ByteRange
from zebra.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from aiohttp import ClientResponse

STALL_TIMEOUT_SECONDS = 10
"""Time-out for a silent server; all tries together take less than the time-out of a stuck worker."""
RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may succeed later."""
VERSION_KEYS = (
    *("ETag", "etag", "blob_id", "md5Hash", "crc32c", "generation"),
    *("mtime", "LastModified", "last_modified", "modified", "updated", "created"),
)
"""Keys of file systems for a value that changes with the content, most reliable first."""


class ObjectVersion(NamedTuple):
    """Size and tag, which distinguish an object from its replacement."""

    size: int
    tag: str
    """ETag, checksum or modification time; empty if the store has none of them."""


class BadResponse(OSError):
    """An invalid response; a retry may succeed."""


class RangeNotSupported(BadResponse):
    """The server returned the entire object instead of a range."""


class NonRetryableError(OSError):
    """A failure that a retry would repeat."""


class ObjectStore(Protocol):
    """Access to objects by URL. Raises OSError and FileNotFoundError as for files, or errors of the store's library."""

    def get_version(self, url: str) -> ObjectVersion:
        """Return the current version."""

    def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
        """Return exactly the bytes of a range, and their version if the response states it."""

    def get(self, url: str) -> bytes:
        """Return a small object."""

    def list_shards(self, url: str) -> list[str]:
        """Return the URLs of the .tar files in a folder."""


def open_object_store(url: str) -> ObjectStore:
    """Return a store for the protocol of a URL, for use in this process only.

    Raises:
        DataError: The protocol is unknown.
        MissingExtra: The package for the protocol is not installed.
    """
    import fsspec

    protocol = url.partition("://")[0]
    try:
        fs = fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None) or error.name or protocol
        raise MissingExtra(missing.partition(".")[0], f"reading {protocol}://") from error
    except ValueError as error:
        raise DataError(f"unknown protocol {protocol}:// in {url} ({error}). Use s3, gs, https, hf, …") from error
    if protocol not in ("http", "https"):
        return FsspecStore(fs)
    fs.client_kwargs.setdefault("trust_env", True)  # proxies
    return HttpStore(fs)


class FsspecStore:
    """Store for any file system of fsspec. Detects a change only in `get_version`, not in each `get_range`."""

    def __init__(self, fs: Any) -> None:
        self.fs = fs

    def get_version(self, url: str) -> ObjectVersion:
        """Return size and tag from the file's metadata."""
        info = self.fs.info(url)
        if info.get("type") == "directory":
            raise IsADirectoryError(url)
        if not isinstance(info.get("size"), int):
            raise NonRetryableError(f"{url}: the store does not report the size")
        return ObjectVersion(info["size"], next((str(info[tag]) for tag in VERSION_KEYS if info.get(tag)), ""))

    def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
        """Read one range."""
        options = {} if self.fs.async_impl else {"cache_type": "none"}  # without it, fsspec reads megabytes ahead
        data = self.fs.cat_file(url, start=offset, end=offset + size, **options)
        return None, _require_size(data, size)

    def get(self, url: str) -> bytes:
        """Read a file."""
        data: bytes = self.fs.cat_file(url)
        return data

    def list_shards(self, url: str) -> list[str]:
        """List the .tar files in a folder."""
        return [self.fs.unstrip_protocol(path) for path in self.fs.glob(f"{url.rstrip('/')}/*.tar")]


class HttpStore(FsspecStore):
    """Store for web servers; accepts a response only if its headers confirm range and version."""

    def get_version(self, url: str) -> ObjectVersion:
        """Request the first byte, which shows whether the server supports ranges."""
        return self._request_sync(url, (0, 1))[0]

    def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
        """Request one range."""
        version, data = self._request_sync(url, (offset, size))
        return version, _require_size(data, size)

    def get(self, url: str) -> bytes:
        """Request the entire object."""
        return self._request_sync(url, None)[1]

    def _request_sync(self, url: str, byte_range: ByteRange | None) -> tuple[ObjectVersion, bytes]:
        from fsspec.asyn import sync

        response: tuple[ObjectVersion, bytes] = sync(self.fs.loop, self._request, url, byte_range)
        return response

    async def _request(self, url: str, byte_range: ByteRange | None) -> tuple[ObjectVersion, bytes]:
        import aiohttp

        headers = {**self.fs.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
        if byte_range:
            headers["Range"] = f"bytes={byte_range[0]}-{sum(byte_range) - 1}"
        timeout = aiohttp.ClientTimeout(sock_connect=STALL_TIMEOUT_SECONDS, sock_read=STALL_TIMEOUT_SECONDS)
        options = {**self.fs.kwargs, "headers": headers, "timeout": timeout}
        session = await self.fs.set_session()
        try:
            async with session.get(self.fs.encode_url(url), **options) as response:
                return _parse_response(url, response, byte_range), await response.read()
        except (aiohttp.InvalidURL, aiohttp.ClientSSLError) as error:
            raise NonRetryableError(str(error)) from error
        except aiohttp.ClientError as error:
            raise BadResponse(f"{type(error).__name__}: {error}") from error


def _require_size(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise BadResponse(f"received {len(data)} bytes instead of {size}")
    return data


def _parse_response(url: str, response: "ClientResponse", byte_range: ByteRange | None) -> ObjectVersion:
    """Return the version in a response; raise OSError if it does not match the request."""
    status = response.status
    if status in (404, 410):
        raise FileNotFoundError(url)
    if status in (401, 403):
        raise PermissionError(f"HTTP {status}")
    if status in RETRYABLE_STATUSES:
        raise BadResponse(f"HTTP {status}")
    tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    if byte_range is None and status == 200:
        return ObjectVersion(response.content_length or 0, tag)
    if byte_range is not None and status == 200:
        raise RangeNotSupported("received the entire object instead of a range")
    if byte_range is None or status != 206:
        raise NonRetryableError(f"HTTP {status}")
    content_range = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", content_range)
    if not match or (int(match[1]), int(match[2])) != (byte_range[0], sum(byte_range) - 1):
        raise BadResponse(
            f"requested {byte_range[1]} bytes at {byte_range[0]}, received {content_range or 'no Content-Range'}"
        )
    return ObjectVersion(int(match[3]), tag)
