"""Settings of `zebra serve`."""

import re
from dataclasses import dataclass, field

from zebra.errors import ConfigError

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
"""Loopback addresses, reachable only from this machine."""
ROOT_PATH_PATTERN = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")
"""Segments of unreserved characters (RFC 3986), none of them . or .."""
ORIGIN_PATTERN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[1-9][0-9]{0,4})?")
"""An origin as browsers send it: scheme, host and port, in lower case."""
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
"""Ports that browsers leave out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchingConfig:
    """Settings for batching requests."""

    max_batch_size: int = 32
    """Largest batch, in images or texts."""
    max_delay_seconds: float = 0.005
    """Longest time that the first item of a batch waits for others."""
    max_queue_size: int = 256
    """Images or texts that may wait; further requests get 429."""
    timeout_seconds: float = 20.0
    """Requests that wait longer get 503."""

    def __post_init__(self) -> None:
        if self.max_batch_size < 1 or self.max_queue_size < self.max_batch_size:
            raise ConfigError(
                f"batching.max_batch_size is {self.max_batch_size} and batching.max_queue_size {self.max_queue_size}; "
                "both must be at least 1, and the queue at least as large as a batch"
            )
        if not 0 <= self.max_delay_seconds < self.timeout_seconds:  # NaN is refused too
            raise ConfigError(
                f"batching.max_delay_seconds is {self.max_delay_seconds} and batching.timeout_seconds "
                f"{self.timeout_seconds}; the delay must not be negative, and the time-out must be longer"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """Settings of the HTTP service: a model, and a store for search."""

    model: str | None = None
    """A model in any layout that `zebra.load` reads; by default the one that embedded the store."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""
    workers: int = 1
    """Processes that run the model, each on its share of the cores. More of them answer more requests of a quick model;
    each takes the memory of the model."""
    store: str | None = None
    """A store written by `zebra embed`."""
    dimensions: int | None = None
    """Search the store by shorter vectors, which takes less memory: of a size that the model was trained for, or any
    after `zebra search STORE --pca`."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 accepts other machines."""
    port: int = 8000
    """The port; 0 picks a free one."""
    quiz: tuple[str, ...] = ()
    """CLIP_benchmark folders with images for the quiz."""
    example_queries: tuple[str, ...] = ()
    """Example queries on the page, before some of the store's captions."""
    api_key: str | None = None
    """Key that every request must send as `Authorization: Bearer KEY`."""
    allow_url_hosts: tuple[str, ...] = ()
    """Hosts, or HOST:PORT, from which images may be fetched; none by default."""
    allow_add: bool = False
    """Let clients add images to the store. They are kept in a folder beside it, STORE-added. Needs a key, unless the
    address is reachable only from this machine."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may use the server, such as https://photos.example.org; * allows every website."""
    root_path: str = ""
    """Path below which a proxy serves this server, such as /zebra. The proxy may forward the path or strip it."""
    batching: BatchingConfig = field(default_factory=BatchingConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"port is {self.port}; it must be from 0 to 65535")
        if self.workers < 1:
            raise ConfigError(f"workers is {self.workers}; at least one process must run the model")
        if self.workers > 1 and self.device not in ("auto", "cpu"):
            raise ConfigError(
                f"workers is {self.workers} and device {self.device}: a device serves one worker. Leave workers out, "
                "or start a server for each device"
            )
        if self.api_key is not None and (not self.api_key.isascii() or not self.api_key.strip()):
            raise ConfigError("api_key is empty or not plain ASCII; make one with: openssl rand -hex 32")
        for host in self.allow_url_hosts:
            if not host or set(host) & set("/@*? "):
                raise ConfigError(f"allow_url_hosts contains {host!r}; list host names, such as images.example.org")
        for origin in self.cors:
            _require_origin(origin)
        if "*" in self.cors and self.api_key is not None:
            raise ConfigError(
                "cors is * and there is an api_key: every website that learns the key could then use it from the "
                "browsers of its visitors. List the origins that know the key, or serve without one."
            )
        if not ROOT_PATH_PATTERN.fullmatch(self.root_path):
            raise ConfigError(
                f"root_path is {self.root_path!r}; give a path that begins with a slash and ends without one, such as "
                "/zebra, of letters, digits and -._~"
            )

    @property
    def is_loopback(self) -> bool:
        """Return whether the address is reachable only from this machine."""
        return self.host in LOOPBACK_HOSTS


def _require_origin(origin: str) -> None:
    """Raise ConfigError for an origin that no browser sends: it would never match."""
    match = ORIGIN_PATTERN.fullmatch(origin)
    if origin != "*" and match is None:
        raise ConfigError(
            f"cors contains {origin!r}; give scheme, host and port in lower case, without a path, such as "
            "https://photos.example.org or http://localhost:3000, or * for every website"
        )
    if match is not None and match[3] is not None and match[3] == DEFAULT_PORTS.get(match[1]):
        raise ConfigError(f"cors contains {origin!r}; browsers leave out the port {match[3][1:]}: do so too")
