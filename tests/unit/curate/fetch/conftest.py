"""A server with faults on loopback addresses, and downloads from it."""

import importlib
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zebra.config.fetch import FetchConfig
from zebra.curate.fetch.fetcher import Fetcher
from zebra.curate.fetch.outcome import FetchedImage

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"
ROBOTS = (
    "missing",
    "error",
    "busy",
    "none",
    "us",
    "others",
    "latin",
    "utf16",
    "large",
    "usage",
    "html",
    "missing",
    "wildcards",
)
"""robots.txt of host 1, 2, …"""
TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""To read the system's certificates takes longer than a download."""


@pytest.fixture(scope="session")
def faulty() -> Iterator[Any]:
    """Return the module of the server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("faulty_server")


@pytest.fixture(scope="module")
def server(faulty: Any) -> Iterator[Any]:
    """Return a running server whose hosts have different robots.txt files."""
    robots = dict(enumerate(ROBOTS, start=1))
    with faulty.serving(faulty.FaultyServer(num_hosts=len(ROBOTS), robots=robots)) as running:
        yield running


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., dict[str, FetchedImage]]:
    """Return a function that downloads from loopback addresses and returns outcomes by URL."""

    def run(
        urls: Iterable[str], *, again: bool = False, folder: str = "images", **settings: Any
    ) -> dict[str, FetchedImage]:
        names = ("is_allowed", "lookup", "ssl_context")
        options = {"is_allowed": is_loopback, "ssl_context": TRUSTS_NOBODY} | {
            name: settings.pop(name) for name in names if name in settings
        }
        config = FetchConfig(**{"timeout_seconds": 10, "max_bytes": 1 << 20} | settings)
        with Fetcher(config, **options) as fetcher:
            return {image.url: image for image in fetcher.fetch(urls, tmp_path / folder, again=again)}

    return run


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zebra.curate.fetch.scheduler.FIRST_BACKOFF_SECONDS", 0.02)


def is_loopback(address: str) -> bool:
    return address.startswith("127.")
