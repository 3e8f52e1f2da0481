"""What sites allow: robots.txt and tdmrep.json, read once per origin.

Reference: RFC 9309. A server error means no, a missing file means yes.
"""

import asyncio
import codecs
from collections import OrderedDict
from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zebra.config.fetch import OptOutSignal
from zebra.curate.fetch.client import AGENT, HttpClient
from zebra.curate.fetch.outcome import FetchFailure, failed_future
from zebra.curate.fetch.signals import is_reserved, parse_tdmrep, usage_rules_as_robots
from zebra.curate.fetch.urls import HttpUrl
from zebra.errors import MissingExtra

if TYPE_CHECKING:
    from protego import Protego

MAX_FILE_BYTES = 500 << 10
"""RFC 9309 asks for at least 500 KiB; the rest of a longer file is ignored."""
TIMEOUT_SECONDS = 10.0
MAX_BYTES_IN_LOOP = 1 << 14
"""Larger files are parsed in a thread, so that they do not delay other connections."""
MAX_ORIGINS = 20_000
MAX_CACHED_BYTES = 16 << 20
"""Limits of the cache: origins, and bytes of their files."""


@dataclass(frozen=True, slots=True)
class SiteRules:
    """The rules of an origin."""

    robots: "Protego | None"
    usage: "Protego | None"
    """Content-Usage rules of robots.txt, with Disallow for what must not be used."""
    tdmrep: tuple[tuple[str, bool], ...]
    num_bytes: int
    """Length of both files."""

    def require_allowed(self, url: HttpUrl) -> None:
        """Raise FetchFailure if robots.txt excludes an address."""
        if self.robots is not None and not self.robots.can_fetch(str(url), AGENT):
            raise FetchFailure("permanent", "excluded by robots.txt", url.origin)
        if self.usage is not None and not self.usage.can_fetch(str(url), AGENT):
            raise FetchFailure("permanent", "excluded by Content-Usage", f"robots.txt of {url.origin}")

    def is_reserved(self, url: HttpUrl) -> bool:
        """Return whether tdmrep.json reserves the rights; a field of the response overrides it."""
        return is_reserved(self.tdmrep, url.path)


class SiteRulesCache:
    """The rules of recent origins."""

    def __init__(self, client: HttpClient, ignore_signals: Set[OptOutSignal]) -> None:
        """Create an empty cache.

        Raises:
            MissingExtra: protego is not installed.
        """
        try:
            import protego
        except ImportError as error:
            raise MissingExtra("protego", "downloading images", "curate") from error
        self._parse = protego.Protego.parse
        self._client = client
        self._ignore_signals = ignore_signals
        self._rules: OrderedDict[str, asyncio.Future[SiteRules]] = OrderedDict()
        self._num_bytes = 0

    async def get(self, url: HttpUrl) -> SiteRules:
        """Return the rules of an address's origin.

        Raises:
            FetchFailure: robots.txt cannot be read, or the host does not respond.
        """
        origin = url.origin
        future = self._rules.get(origin)
        if future is None:
            future = self._rules[origin] = asyncio.ensure_future(self._read(url))
            future.add_done_callback(lambda done: self._account(origin, done))
        else:
            self._rules.move_to_end(origin)
        return await asyncio.shield(future)

    def _account(self, origin: str, done: asyncio.Future[SiteRules]) -> None:
        """Count the bytes of new rules, or forget a failed connection, which may be tried again."""
        if done.cancelled() or (error := done.exception()) is not None:
            self._rules.pop(origin, None)
            if isinstance(error, FetchFailure) and not error.should_retry:
                self._rules[origin] = failed_future(error)
            return
        self._num_bytes += done.result().num_bytes
        while len(self._rules) > MAX_ORIGINS or self._num_bytes > MAX_CACHED_BYTES:
            _, oldest = self._rules.popitem(last=False)
            if oldest.done() and not oldest.cancelled() and oldest.exception() is None:
                self._num_bytes -= oldest.result().num_bytes

    async def _read(self, url: HttpUrl) -> SiteRules:
        needs_robots = not self._ignore_signals >= {"robots", "content-usage"}
        text = await self._read_robots(url) if needs_robots else ""
        tdmrep = b"" if "tdmrep" in self._ignore_signals else await self._read_tdmrep(url)
        if len(text) + len(tdmrep) > MAX_BYTES_IN_LOOP:
            return await asyncio.to_thread(self._parse_files, text, tdmrep)
        return self._parse_files(text, tdmrep)

    def _parse_files(self, text: str, tdmrep: bytes) -> SiteRules:
        has_robots = bool(text) and "robots" not in self._ignore_signals
        has_usage = "content-usage" in text.lower() and "content-usage" not in self._ignore_signals
        return SiteRules(
            self._parse(text) if has_robots else None,
            self._parse(usage_rules_as_robots(text)) if has_usage else None,
            tuple(parse_tdmrep(tdmrep)),
            len(text) + len(tdmrep),
        )

    async def _read_robots(self, url: HttpUrl) -> str:
        site_file = HttpUrl(url.scheme, url.host, url.port, "/robots.txt")
        try:
            response = await self._client.get_site_file(site_file, TIMEOUT_SECONDS, MAX_FILE_BYTES)
        except FetchFailure as failure:
            if failure.blames_host and failure.should_retry:
                raise  # the host does not respond at all
            if failure.status == "permanent":  # a redirect to nowhere: RFC 9309 counts it as missing
                return ""
            raise FetchFailure("passing", "robots.txt cannot be read", str(failure), blames_host=True) from failure
        if response.status >= 500 or response.status == 429:
            raise FetchFailure("passing", "robots.txt cannot be read", f"status {response.status}")
        return _decode(response.body) if response.status == 200 else ""

    async def _read_tdmrep(self, url: HttpUrl) -> bytes:
        site_file = HttpUrl(url.scheme, url.host, url.port, "/.well-known/tdmrep.json")
        try:
            response = await self._client.get_site_file(site_file, TIMEOUT_SECONDS, MAX_FILE_BYTES)
        except FetchFailure:  # without the file, the site does not take part
            return b""
        return response.body if response.status == 200 else b""


def _decode(data: bytes) -> str:
    """Decode a robots.txt, which should be UTF-8; bytes that are not become replacement characters."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace").replace("\0", "")
