"""What the HTTP service serves, where it listens, and how requests share the model."""

from dataclasses import dataclass, field

from zebra.errors import ConfigError

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that no other can reach."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchingConfig:
    """How requests share passes of the model."""

    max_batch_size: int = 32
    """Most pictures, or texts, that pass the model together."""
    max_delay_seconds: float = 0.005
    """How long the first of a batch waits for others."""
    max_queue_size: int = 256
    """Pictures, or texts, that may wait; more are refused with 429."""
    timeout_seconds: float = 20.0
    """What has waited longer is given up with 503."""

    def __post_init__(self) -> None:
        if self.max_batch_size < 1 or self.max_queue_size < self.max_batch_size:
            raise ConfigError(
                f"batching.size is {self.max_batch_size} and batching.queue {self.max_queue_size}; both are at least 1, and a batch fits "
                "into the queue"
            )
        if self.max_delay_seconds < 0 or self.timeout_seconds <= self.max_delay_seconds:
            raise ConfigError(
                f"batching.delay_seconds is {self.max_delay_seconds} and batching.deadline_seconds "
                f"{self.timeout_seconds}; the delay is not negative, and the deadline beyond it"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """One service: a model, and a store to be searched if there is one."""

    model: str | None = None
    """A model of any layout that `zebra.load` reads; the one that filled the store if it is left out."""
    store: str | None = None
    """A store of zebra embed."""
    host: str = "127.0.0.1"
    """The address to listen at; 0.0.0.0 lets other machines in."""
    port: int = 8000
    """0 takes a free one."""
    quiz: tuple[str, ...] = ()
    """CLIP_benchmark folders whose pictures people can be asked about."""
    example_queries: tuple[str, ...] = ()
    """Texts to try first on the store; a few of its captions follow."""
    api_key: str | None = None
    """What every request has to bring as `Authorization: Bearer KEY`."""
    allow_url_hosts: tuple[str, ...] = ()
    """Hosts, or HOST:PORT, that pictures may be fetched from; none by default."""
    batching: BatchingConfig = field(default_factory=BatchingConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"port is {self.port}; it is a number from 0 to 65535")
        if self.api_key is not None and (not self.api_key.isascii() or not self.api_key.strip()):
            raise ConfigError("api_key is empty or not plain ASCII; make one with: openssl rand -hex 32")
        for host in self.allow_url_hosts:
            if not host or set(host) & set("/@*? "):
                raise ConfigError(f"allow_urls names {host!r}; it lists hosts, such as images.example.org")

    @property
    def is_loopback(self) -> bool:
        """Whether no other machine can reach it."""
        return self.host in LOOPBACK_HOSTS
