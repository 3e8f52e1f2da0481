"""A URL in; its version, a range of its bytes or all of them out: asked once, and never half an answer.

`http(s)` goes through the session of fsspec's file system but is judged here, since that takes whatever comes for the
range; everything else goes through what fsspec offers for the protocol. Nothing of fsspec is cached: neither file
systems, which do not survive a fork, nor listings, which hide changes.
"""

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zebra.data.remote.blobs import Place
from zebra.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from aiohttp import ClientResponse

STALL_SECONDS = 10
"""How long a server may be silent before a request counts as lost; all tries end before a worker counts as stuck."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses under which the same request may succeed later."""
TAGS = (
    *("ETag", "etag", "blob_id", "md5Hash", "crc32c", "generation"),
    *("mtime", "LastModified", "last_modified", "modified", "updated", "created"),
)
"""How file systems name what changes with an object's bytes, the surest first."""


class Version(NamedTuple):
    """What tells an object from one that took its place."""

    size: int
    tag: str
    """ETag, checksum or time of change; empty if the store has none of them."""


class WrongAnswer(OSError):
    """An answer that is not what was asked for; the next one may be."""


class NoRanges(WrongAnswer):
    """The whole object instead of a part of it."""


class Refused(OSError):
    """An answer that will not be another one next time."""


class Store(Protocol):
    """Objects by URL; OSError and FileNotFoundError as files would raise them, or what the store's library raises."""

    def version(self, url: str) -> Version:
        """Return the version that lies there now."""

    def fetch(self, url: str, offset: int, size: int) -> tuple[Version | None, bytes]:
        """Return exactly the bytes of a range, and the version they are of if the answer says so."""

    def whole(self, url: str) -> bytes:
        """Return all bytes of a small object."""

    def shards(self, url: str) -> list[str]:
        """Return the URLs of the .tar files in a folder."""


def open_store(url: str) -> Store:
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
        return Files(files)
    files.client_kwargs.setdefault("trust_env", True)  # proxies
    return Http(files)


class Files:
    """Any file system of fsspec. It sees a change when it is asked for the version, not with every range."""

    def __init__(self, files: Any) -> None:
        self.files = files

    def version(self, url: str) -> Version:
        """Return what the file system says about the file."""
        info = self.files.info(url)
        if info.get("type") == "directory":
            raise IsADirectoryError(url)
        if not isinstance(info.get("size"), int):
            raise Refused(f"{url}: the store does not tell the size")
        return Version(info["size"], next((str(info[tag]) for tag in TAGS if info.get(tag)), ""))

    def fetch(self, url: str, offset: int, size: int) -> tuple[Version | None, bytes]:
        """Read one range."""
        plain = {} if self.files.async_impl else {"cache_type": "none"}  # or it would read megabytes ahead
        data = self.files.cat_file(url, start=offset, end=offset + size, **plain)
        return None, _complete(data, size)

    def whole(self, url: str) -> bytes:
        """Read a whole file."""
        data: bytes = self.files.cat_file(url)
        return data

    def shards(self, url: str) -> list[str]:
        """List a folder."""
        return [self.files.unstrip_protocol(path) for path in self.files.glob(f"{url.rstrip('/')}/*.tar")]


class Http(Files):
    """Web servers: each answer says which bytes of which version it holds, and is believed only then."""

    def version(self, url: str) -> Version:
        """Ask for the first byte, which shows whether the server answers ranges at all."""
        return self._get(url, (0, 1))[0]

    def fetch(self, url: str, offset: int, size: int) -> tuple[Version | None, bytes]:
        """Get one range."""
        version, data = self._get(url, (offset, size))
        return version, _complete(data, size)

    def whole(self, url: str) -> bytes:
        """Get everything."""
        return self._get(url, None)[1]

    def _get(self, url: str, place: Place | None) -> tuple[Version, bytes]:
        from fsspec.asyn import sync

        answer: tuple[Version, bytes] = sync(self.files.loop, self._ask, url, place)
        return answer

    async def _ask(self, url: str, place: Place | None) -> tuple[Version, bytes]:
        import aiohttp

        headers = {**self.files.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
        if place:
            headers["Range"] = f"bytes={place[0]}-{sum(place) - 1}"
        patience = aiohttp.ClientTimeout(sock_connect=STALL_SECONDS, sock_read=STALL_SECONDS)
        options = {**self.files.kwargs, "headers": headers, "timeout": patience}
        session = await self.files.set_session()
        try:
            async with session.get(self.files.encode_url(url), **options) as answer:
                return _judge(url, answer, place), await answer.read()
        except (aiohttp.InvalidURL, aiohttp.ClientSSLError) as error:
            raise Refused(str(error)) from error
        except aiohttp.ClientError as error:
            raise WrongAnswer(f"{type(error).__name__}: {error}") from error


def _complete(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise WrongAnswer(f"{len(data)} bytes came instead of {size}")
    return data


def _judge(url: str, answer: "ClientResponse", place: Place | None) -> Version:
    """Return the version an answer is about; an error if it is not the answer to what was asked."""
    status = answer.status
    if status in (404, 410):
        raise FileNotFoundError(url)
    if status in (401, 403):
        raise PermissionError(f"HTTP {status}")
    if status in PASSING:
        raise WrongAnswer(f"HTTP {status}")
    tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if place is None and status == 200:
        return Version(answer.content_length or 0, tag)
    if place is not None and status == 200:
        raise NoRanges("the whole object came instead of a range of it")
    if place is None or status != 206:
        raise Refused(f"HTTP {status}")
    told = answer.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", told)
    if not found or (int(found[1]), int(found[2])) != (place[0], sum(place) - 1):
        raise WrongAnswer(f"asked for {place[1]} bytes at {place[0]}, answered {told or 'without a range'}")
    return Version(int(found[3]), tag)
