"""A URL in; its version, a range of its bytes or all of them out: asked once, and never half an answer.

`http(s)` goes through the session of fsspec's file system but is judged here, since that takes whatever comes for the
range; everything else goes through what fsspec offers for the protocol. Nothing of fsspec is cached: neither file
systems, which do not survive a fork, nor listings, which hide changes.
"""

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zebra.data.remote.blobs import ByteRange
from zebra.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from aiohttp import ClientResponse

STALL_TIMEOUT_SECONDS = 10
"""How long a server may be silent before a request counts as lost; all tries end before a worker counts as stuck."""
RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses under which the same request may succeed later."""
VERSION_KEYS = (
    *("ETag", "etag", "blob_id", "md5Hash", "crc32c", "generation"),
    *("mtime", "LastModified", "last_modified", "modified", "updated", "created"),
)
"""How file systems name what changes with an object's bytes, the surest first."""


class ObjectVersion(NamedTuple):
    """What tells an object from one that took its place."""

    size: int
    tag: str
    """ETag, checksum or time of change; empty if the store has none of them."""


class BadResponse(OSError):
    """An answer that is not what was asked for; the next one may be."""


class RangeNotSupported(BadResponse):
    """The whole object instead of a part of it."""


class NonRetryableError(OSError):
    """An answer that will not be another one next time."""


class ObjectStore(Protocol):
    """Objects by URL; OSError and FileNotFoundError as files would raise them, or what the store's library raises."""

    def get_version(self, url: str) -> ObjectVersion:
        """Return the version that lies there now."""

    def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
        """Return exactly the bytes of a range, and the version they are of if the answer says so."""

    def get(self, url: str) -> bytes:
        """Return all bytes of a small object."""

    def list_shards(self, url: str) -> list[str]:
        """Return the URLs of the .tar files in a folder."""


def open_object_store(url: str) -> ObjectStore:
    """Open the store that a URL belongs to, for this process alone.

    Raises:
        DataError: Nobody knows the protocol.
        MissingExtra: The package for the protocol is not installed.
    """
    import fsspec

    protocol = url.partition("://")[0]
    try:
        files = fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None) or error.name or protocol
        raise MissingExtra(missing.partition(".")[0], f"reading {protocol}://") from error
    except ValueError as error:
        raise DataError(
            f"{url}: nothing is known to read {protocol}:// ({error}); use s3, gs, https, hf, …"
        ) from error
    if protocol not in ("http", "https"):
        return FsspecStore(files)
    files.client_kwargs.setdefault("trust_env", True)  # proxies
    return HttpStore(files)


class FsspecStore:
    """Any file system of fsspec. It sees a change when it is asked for the version, not with every range."""

    def __init__(self, fs: Any) -> None:
        self.fs = fs

    def get_version(self, url: str) -> ObjectVersion:
        """Return what the file system says about the file."""
        info = self.fs.info(url)
        if info.get("type") == "directory":
            raise IsADirectoryError(url)
        if not isinstance(info.get("size"), int):
            raise NonRetryableError(f"{url}: the store does not tell the size")
        return ObjectVersion(
            info["size"], next((str(info[tag]) for tag in VERSION_KEYS if info.get(tag)), "")
        )

    def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
        """Read one range."""
        plain = {} if self.fs.async_impl else {"cache_type": "none"}  # or it would read megabytes ahead
        data = self.fs.cat_file(url, start=offset, end=offset + size, **plain)
        return None, _require_size(data, size)

    def get(self, url: str) -> bytes:
        """Read a whole file."""
        data: bytes = self.fs.cat_file(url)
        return data

    def list_shards(self, url: str) -> list[str]:
        """List a folder."""
        return [self.fs.unstrip_protocol(path) for path in self.fs.glob(f"{url.rstrip('/')}/*.tar")]


class HttpStore(FsspecStore):
    """Web servers: each answer says which bytes of which version it holds, and is believed only then."""

    def get_version(self, url: str) -> ObjectVersion:
        """Ask for the first byte, which shows whether the server answers ranges at all."""
        return self._request_sync(url, (0, 1))[0]

    def get_range(self, url: str, offset: int, size: int) -> tuple[ObjectVersion | None, bytes]:
        """Get one range."""
        version, data = self._request_sync(url, (offset, size))
        return version, _require_size(data, size)

    def get(self, url: str) -> bytes:
        """Get everything."""
        return self._request_sync(url, None)[1]

    def _request_sync(self, url: str, byte_range: ByteRange | None) -> tuple[ObjectVersion, bytes]:
        from fsspec.asyn import sync

        answer: tuple[ObjectVersion, bytes] = sync(self.fs.loop, self._request, url, byte_range)
        return answer

    async def _request(self, url: str, byte_range: ByteRange | None) -> tuple[ObjectVersion, bytes]:
        import aiohttp

        headers = {**self.fs.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
        if byte_range:
            headers["Range"] = f"bytes={byte_range[0]}-{sum(byte_range) - 1}"
        patience = aiohttp.ClientTimeout(sock_connect=STALL_TIMEOUT_SECONDS, sock_read=STALL_TIMEOUT_SECONDS)
        options = {**self.fs.kwargs, "headers": headers, "timeout": patience}
        session = await self.fs.set_session()
        try:
            async with session.get(self.fs.encode_url(url), **options) as answer:
                return _parse_response(url, answer, byte_range), await answer.read()
        except (aiohttp.InvalidURL, aiohttp.ClientSSLError) as error:
            raise NonRetryableError(str(error)) from error
        except aiohttp.ClientError as error:
            raise BadResponse(f"{type(error).__name__}: {error}") from error


def _require_size(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise BadResponse(f"{len(data)} bytes came instead of {size}")
    return data


def _parse_response(url: str, response: "ClientResponse", byte_range: ByteRange | None) -> ObjectVersion:
    """Return the version an answer is about; an error if it is not the answer to what was asked."""
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
        raise RangeNotSupported("the whole object came instead of a range of it")
    if byte_range is None or status != 206:
        raise NonRetryableError(f"HTTP {status}")
    told = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", told)
    if not found or (int(found[1]), int(found[2])) != (byte_range[0], sum(byte_range) - 1):
        raise BadResponse(
            f"asked for {byte_range[1]} bytes at {byte_range[0]}, answered {told or 'without a range'}"
        )
    return ObjectVersion(int(found[3]), tag)
