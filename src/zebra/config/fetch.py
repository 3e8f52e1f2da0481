"""Settings for downloading images from links."""

import re
from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError

OptOutSignal = Literal["robots", "x-robots-tag", "tdmrep", "content-usage"]
CONTACT_PATTERN = re.compile(r"https?://[!-~]+\.[!-~]+|[!-?A-~]+@[!-?A-~]+\.[!-?A-~]+")
"""A web page or an e-mail address."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchConfig:
    """How images are downloaded, and which opt-outs are honored."""

    contact: str | None = None
    """E-mail address or web page of whoever runs the download; sent to every server, and required for public hosts."""
    allow_private: bool = False
    """Also contact private and loopback addresses: for an image server in your own network. Never use it with links
    from strangers, which could then read that network. Without `contact`, public hosts are refused instead."""
    ignore_signals: tuple[OptOutSignal, ...] = ()
    """Opt-outs to ignore: `robots` (robots.txt), `x-robots-tag`, `tdmrep`, `content-usage`. Recorded in the account."""
    folder: str | None = None
    """Keep downloaded images and outcomes here, so that later runs on the pool with other rules repeat no request. By
    default they are removed when the set is complete."""
    again: bool = False
    """Repeat requests of earlier runs that failed for reasons that may pass, such as a server error."""
    shorter_side: int | None = None
    """Resize larger images to this shorter side in pixels, as JPEG. None: keep the bytes of the server."""
    max_connections: int = 256
    """Most connections at a time."""
    max_connections_per_host: int = 2
    """Most connections to one host at a time."""
    max_tries: int = 3
    """Most requests per image; only failures that may pass are tried again."""
    timeout_seconds: float = 30.0
    """Time limit of one request, from the connection to the last byte."""
    max_bytes: int = 32 << 20
    """Largest body in bytes, also after decompression; the rest is not read."""
    max_pixels: int = 89_478_485
    """Largest width × height to decode, by the header; only images that are resized are decoded."""
    max_outage_seconds: float = 600.0
    """How long to wait when nearly all hosts fail at once, before the run stops with an error."""

    def __post_init__(self) -> None:
        if self.contact is not None and not CONTACT_PATTERN.fullmatch(self.contact):
            raise ConfigError(f"fetch.contact is {self.contact!r}; give an e-mail address or the URL of a web page")
        for name in ("max_connections", "max_connections_per_host", "max_tries", "max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"fetch.{name} is {getattr(self, name)}; it must be at least 1")
        if self.shorter_side is not None and self.shorter_side < 8:
            raise ConfigError(f"fetch.shorter_side is {self.shorter_side}; it must be at least 8")
        if self.timeout_seconds <= 0 or self.max_outage_seconds < 0:
            raise ConfigError("fetch.timeout_seconds must be above 0, and fetch.max_outage_seconds must not be below 0")
