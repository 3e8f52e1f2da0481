"""One request for an image, with all checks of the site and of the response."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zebra.config.fetch import FetchConfig
from zebra.curate.fetch.body import Body, iter_body
from zebra.curate.fetch.client import AGENT, REDIRECT_STATUSES, HttpClient, redirect_target, status_failure
from zebra.curate.fetch.images import NUM_SIGNATURE_BYTES, ImageBytes, prepare_image, require_image_signature
from zebra.curate.fetch.outcome import FetchFailure
from zebra.curate.fetch.signals import find_robots_tag, find_tdm_reservation, find_usage_preference
from zebra.curate.fetch.sites import SiteRules, SiteRulesCache
from zebra.curate.fetch.urls import HttpUrl

if TYPE_CHECKING:
    from aiohttp import ClientResponse

MAX_BYTES_IN_LOOP = 1 << 20
"""Larger bodies are hashed in a thread, so that they do not delay other connections."""


@dataclass(frozen=True, slots=True)
class ImageRequester:
    """Requests images; shared by all connections."""

    client: HttpClient
    sites: SiteRulesCache
    config: FetchConfig
    threads: Executor
    """Where images are resized."""

    async def request(self, url: HttpUrl, *, is_last: bool) -> ImageBytes | HttpUrl:
        """Return an image, or the address that the server redirects to.

        Args:
            is_last: Close the connection afterwards, because no other image of the host is needed.

        Raises:
            FetchFailure: There is no image, or the site excludes it.
        """
        site = await self.sites.get(url)
        site.require_allowed(url)
        async with self.client.get(url, self.config.timeout_seconds, is_last=is_last) as response:
            if response.status in REDIRECT_STATUSES:
                return redirect_target(response, url)
            if failure := status_failure(response):
                raise failure
            self._require_no_opt_out(response, site, url)
            data = await self._read_body(response)
        if self.config.shorter_side is None and len(data) <= MAX_BYTES_IN_LOOP:
            return prepare_image(data, str(url), self.config)
        return await asyncio.get_running_loop().run_in_executor(
            self.threads, prepare_image, data, str(url), self.config
        )

    def _require_no_opt_out(self, response: "ClientResponse", site: SiteRules, url: HttpUrl) -> None:
        headers, ignored = response.headers, self.config.ignore_signals
        if "x-robots-tag" not in ignored and (tag := find_robots_tag(headers.getall("X-Robots-Tag", ()), AGENT)):
            raise FetchFailure("permanent", "excluded by X-Robots-Tag", tag)
        if "content-usage" not in ignored and (member := find_usage_preference(headers.getall("Content-Usage", ()))):
            raise FetchFailure("permanent", "excluded by Content-Usage", member)
        if "tdmrep" not in ignored:
            reservation = find_tdm_reservation(headers.getall("tdm-reservation", ()))
            if reservation or (reservation is None and site.is_reserved(url)):
                source = "tdmrep.json" if reservation is None else "tdm-reservation field"
                raise FetchFailure("permanent", "rights reserved by TDMRep", source)

    async def _read_body(self, response: "ClientResponse") -> bytes:
        limit, length = self.config.max_bytes, response.content_length
        if length is not None and length > limit:
            raise FetchFailure("permanent", "body is too large", f"{length:,} bytes, more than {limit:,}")
        body, start = Body(), b""
        content_type = response.headers.get("Content-Type", "")
        try:
            async for part in iter_body(response, limit):
                if len(start) < NUM_SIGNATURE_BYTES:
                    start += part[: NUM_SIGNATURE_BYTES - len(start)]
                    if len(start) == NUM_SIGNATURE_BYTES:
                        require_image_signature(start, content_type)
                body.append(part)
            if len(start) < NUM_SIGNATURE_BYTES:
                require_image_signature(start, content_type)
            return body.read()
        finally:
            body.close()
